"""The end of a history, without faults: all that was left behind is done. Owns what that takes; not
what must hold then (`tests.faults.machine_judge`)."""

from __future__ import annotations

from tests.faults.machine_world import QUIET, World


def come_to_rest(world: World) -> None:
    """Let all that is on its way arrive, replace every process, and let new ones, whose clocks
    are right, do what is left without faults."""
    world.arrive(len(world.late))
    world.offsets_s = [0.0]
    for process in [each.process for each in [*world.functions, *world.workers]]:
        world.bury(process)
    _ask_all(world)
    world.tick(world.functions[0], QUIET)


def _ask_all(world: World) -> None:
    for _ in range(100):
        if not world.client.unanswered:
            return
        world.ask(world.functions[0], world.client.unanswered[0], QUIET)
    raise AssertionError("requests are not answered")


def drain(world: World) -> None:
    """Work until the queues are empty and time enough passed for what was left behind."""
    for name in world.client.schedules:
        world.client.unschedule(name, patient=True)
    for order in list(world.client.orders.values()):
        if order.is_open and order.accepted and not order.given_up:
            world.client.close(order, patient=True)
    _ask_all(world)
    for turn in range(100):
        for _ in range(20):
            _all_work(world)
            if _nothing_visible(world):
                break
        if turn > 2 and all(queue.is_empty() for queue in world.cloud.queues()):
            return
        world.cloud.clock.sleep(100_000 if turn == 1 else 1_000)
        for batch_id in list(world.cloud.monitor._batches) if turn < 3 else ():
            world.look(world.functions[0], batch_id, QUIET)
    depths = [queue.depth() for queue in world.cloud.queues()]
    world.faults.append(("wrong", f"the queues did not drain: {depths}"))


def _all_work(world: World) -> None:
    world.read(world.functions[0], QUIET)
    world.work(world.workers[0], QUIET)
    world.collect(world.functions[0], QUIET)


def _nothing_visible(world: World) -> bool:
    return not any(queue.depth().backlog for queue in world.cloud.queues())
