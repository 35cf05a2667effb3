"""The workload: chunks for slots, room for more bundles, and the end of each bundle."""

import threading

import pytest

from ec2_worker.claimed import ClaimedBundle
from ec2_worker.workload import OVERSTAY_S, Workload
from taskfleet.bundle import Bundle
from taskfleet.lease import Lease
from taskfleet.memory import ManualClock
from taskfleet.ports import Message
from taskfleet.task import Task, TaskResult, TaskStatus

NOW = 1000.0
LOST = "its worker w-1 was lost while it ran"


def claimed(job, params, prior=(), kind="sleep", attempt=1):
    tasks = [Task(i, kind, p) for i, p in enumerate(params)]
    return ClaimedBundle(
        Bundle(job, "alice", "b", tasks),
        Message(job, f"receipt-{job}", "", 1),
        Lease("me", attempt, 100.0),
        prior,
        NOW,
    )


def workload(threads=4, limits=None, clock=None):
    def expected_s(tasks):
        return [None if task.params is None else task.params / 1000 for task in tasks]

    return Workload(threads, limits or {}, expected_s, (clock or ManualClock(NOW)).now)


def put(work, *bundles):
    for one in bundles:
        work.wait_for_room(0)
        work.give_up_room(work._incoming[False] - 1)
        work.add(one)


def indices(chunk):
    return [task.index for task in chunk.tasks]


# --- chunks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "first"),
    [
        ([0] * 3000, 1000),
        ([10] * 5, 2),
        ([1000] * 5, 1),
        ([None] * 5, 1),
        ([0, 0, 1000], 2),
    ],
)
def test_a_slot_takes_about_twenty_milliseconds_of_work(params, first):
    work = workload()
    put(work, claimed("b:0", params))
    assert len(work.take(wait=False).tasks) == first


def test_a_slot_takes_more_while_much_is_in_hand_and_less_near_the_end():
    work = workload(threads=2)
    put(work, claimed("a", [10] * 64))
    sizes = []
    while (chunk := work.take(wait=False)) is not None:
        assert chunk.expected_s == pytest.approx(len(chunk.tasks) / 100)
        sizes.append(len(chunk.tasks))
        work.done(chunk, [], chunk.expected_s)
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-2], sum(sizes)) == (10, 2, 64)


def test_a_bundle_of_long_tasks_spreads_over_all_slots():
    work = workload(threads=4)
    put(work, claimed("b:0", [1000] * 4))
    assert [indices(work.take(wait=False)) for _ in range(4)] == [[0], [1], [2], [3]]


def test_the_pace_of_unknown_tasks_is_learned():
    work = workload()
    put(work, claimed("b:0", [None] * 600))
    chunk = work.take(wait=False)
    work.done(chunk, [], 0.0001)
    assert len(work.take(wait=False).tasks) == 200


@pytest.mark.parametrize(("each_ms", "tasks"), [(5, 4), (10.3, 2), (13, 2), (14, 1), (30, 1)])
def test_a_chunk_is_as_nearly_as_can_be_twenty_milliseconds(each_ms, tasks):
    work = Workload(4, {}, lambda tasks: [task.params / 1000 for task in tasks], lambda: NOW)
    put(work, claimed("b:0", [each_ms] * 10))
    assert len(work.take(wait=False).tasks) == tasks


def test_paces_of_several_functions_are_learned_apart():
    work = workload()
    work.pace_name = lambda task: task.params
    work.expected_s = lambda tasks: [None] * len(tasks)
    put(work, claimed("b:0", ["f"] * 300 + ["g"] * 300))
    work.done(work.take(wait=False), [], 0.0001)
    taken = [work.take(wait=False).tasks for _ in range(3)]
    assert [len(tasks) for tasks in taken] == [200, 99, 1]  # g is unknown yet
    assert [tasks[-1].params for tasks in taken] == ["f", "f", "g"]


def test_tasks_that_a_slot_gives_back_are_taken_next_in_order():
    work = workload()
    put(work, claimed("b:0", [0] * 6))
    chunk = work.take(wait=False)
    assert work.done(chunk, chunk.tasks[2:], 1.0) is False
    assert indices(work.take(wait=False)) == [2, 3, 4, 5]


def test_a_chunk_is_of_one_kind():
    work = workload()
    mixed = ClaimedBundle(
        Bundle("b:0", "alice", "b", [Task(0, "a", 0), Task(1, "a", 0), Task(2, "b", 0)]),
        Message("m", "r", "", 1),
        Lease("me", 1, 100.0),
        (),
    )
    put(work, mixed)
    assert indices(work.take(wait=False)) == [0, 1]
    assert indices(work.take(wait=False)) == [2]


def test_a_limited_kind_leaves_slots_to_the_others():
    work = workload(threads=4, limits={"movie": 1})
    put(
        work,
        claimed("b:0", [None, None], kind="movie"),
        claimed("b:1", [1000, 1000]),
    )
    first = work.take(wait=False)
    assert first.kind == "movie"
    assert [work.take(wait=False).kind for _ in range(2)] == ["sleep", "sleep"]
    assert work.take(wait=False) is None
    work.done(first, [], 1.0)
    assert work.take(wait=False).kind == "movie"


# --- room -----------------------------------------------------------------------------------


def test_it_asks_for_no_more_than_its_free_slots_can_take():
    work = workload(threads=4)
    assert work.wait_for_room(0) == 4
    assert work.wait_for_room(0) == 0  # The first call reserved all places.
    work.give_up_room(4)
    put(work, claimed("b:0", [1000] * 3))
    work.take(wait=False)
    assert work.wait_for_room(0) == 1


def test_it_never_asks_for_more_than_one_receive_returns():
    assert workload(threads=64).wait_for_room(0) == 10


def test_no_ops_take_hardly_any_room():
    work = workload(threads=4)
    for number in range(12):
        put(work, claimed(f"b:{number}", [0] * 100))
    assert work.wait_for_room(0) == 10


def test_room_is_bounded_however_small_the_bundles():
    work = workload(threads=16)
    for number in range(32):
        put(work, claimed(f"b:{number}", [0]))
    assert work.wait_for_room(0) == 0


def test_a_kind_at_its_limit_is_refused_and_others_are_not():
    work = workload(threads=4, limits={"movie": 2})
    assert not work.refuses({"movie"})
    put(work, claimed("b:0", [None], kind="movie"))
    assert not work.refuses({"movie"})
    work.take(wait=False)
    put(work, claimed("b:1", [None], kind="movie"))
    assert work.refuses({"movie"})
    assert not work.refuses({"sleep"})


def test_room_wakes_the_intake():
    work = workload(threads=1)
    put(work, claimed("b:0", [1000]))
    chunk = work.take(wait=False)
    rooms = []
    thread = threading.Thread(target=lambda: rooms.append(work.wait_for_room(30)))
    thread.start()
    work.done(chunk, [], 1.0)
    work.remove(chunk.claimed)
    thread.join(10)
    assert rooms == [1]


def test_a_slot_that_will_soon_be_free_is_filled_ahead():
    clock = ManualClock(NOW)
    work = workload(threads=1, clock=clock)
    put(work, claimed("b:0", [1000]))
    work.take(wait=False)
    assert not work.has_room()
    clock.set(NOW + 0.5)
    assert not work.has_room()
    clock.set(NOW + 0.95)
    work._message_slots = 0.5
    assert work.has_room()
    clock.set(NOW + 1.5)  # Overdue: its end is unknown.
    assert not work.has_room()


@pytest.mark.parametrize(("left_s", "room"), [(0.0, 4), (0.07, 4), (0.12, 3), (0.2, 1), (0.3, 0)])
def test_slots_that_will_be_free_within_a_round_trip_count_as_free(left_s, room):
    clock = ManualClock(NOW)
    work = workload(threads=4, clock=clock)
    for number in range(4):
        put(work, claimed(f"b:{number}", [1000]))
        work.take(wait=False)
    clock.set(NOW + 1.0 - left_s)
    assert work.wait_for_room(0) == room


# --- bundles that overstay ---


def test_the_rest_of_a_bundle_that_takes_too_long_is_given_back():
    clock = ManualClock(NOW)
    work = workload(threads=1, clock=clock)
    put(work, claimed("b:0", [None] * 3))
    running = work.take(wait=False)
    clock.set(NOW + OVERSTAY_S - 0.1)
    assert work.give_back_overdue() == []
    assert not running.claimed.leaving
    clock.set(NOW + OVERSTAY_S)
    assert work.give_back_overdue() == []
    assert work.take(wait=False) is None
    assert work.done(running, [], OVERSTAY_S) is True
    assert [task.index for task in running.claimed.pending] == [1, 2]


def test_a_bundle_that_never_got_a_slot_is_given_back_at_once():
    clock = ManualClock(NOW)
    work = workload(threads=1, clock=clock)
    put(work, claimed("b:0", [None]), claimed("b:1", [None]))
    work.take(wait=False)
    clock.set(NOW + OVERSTAY_S)
    assert [h.bundle.job_id for h in work.give_back_overdue()] == ["b:1"]
    assert work.give_back_overdue() == []


# --- the end of a bundle --------------------------------------------------------------------


def test_a_bundle_is_ready_once_when_its_last_chunk_is_done():
    work = workload()
    put(work, claimed("b:0", [1000, 1000]))
    first, second = work.take(wait=False), work.take(wait=False)
    assert work.done(first, [], 1.0) is False
    assert work.done(second, [], 1.0) is True
    assert work.stop_starting() == []  # It is being settled already.


def test_a_bundle_with_nothing_left_is_ready_on_arrival():
    work = workload()
    work.wait_for_room(0)
    assert work.add(claimed("b:0", [0], prior=[TaskResult(0, TaskStatus.SUCCEEDED)])) is True


def test_draining_starts_nothing_and_waits_for_what_runs():
    work = workload()
    put(work, claimed("b:0", [1000, 1000]), claimed("b:1", [1000]))
    running = work.take(wait=False)
    assert [h.bundle.job_id for h in work.stop_starting()] == ["b:1"]
    assert work.take() is None
    assert work.wait_for_room(30) == 0
    assert work.done(running, [], 1.0) is True
    assert len(running.claimed.pending) == 1


def test_a_lost_bundle_is_gone_and_never_settled():
    work = workload()
    put(work, claimed("b:0", [1000, 1000]))
    chunk = work.take(wait=False)
    work.lose(chunk.claimed)
    assert chunk.claimed.stopped.is_set()
    assert work.in_hand() == []
    assert work.done(chunk, [], 1.0) is False
    assert work.take(wait=False) is None


def test_abandoned_bundles_are_handed_over_once():
    work = workload()
    put(work, claimed("b:0", [1000]))
    work.take(wait=False)
    assert len(work.abandon()) == 1
    assert work.abandon() == []


# --- rows -----------------------------------------------------------------------------------


def test_earlier_results_are_kept_and_their_tasks_not_run_again():
    one = claimed(
        "b:0",
        [0, 0, 0],
        prior=[
            TaskResult(0, TaskStatus.SUCCEEDED, attempts=1),
            TaskResult(1, TaskStatus.QUEUED, error="503", attempts=2),
        ],
        attempt=1,
    )
    assert [task.index for task in one.pending] == [1, 2]
    assert [one.attempt(i) for i in (1, 2)] == [3, 1]


def test_attempts_of_a_released_bundle_are_carried_by_its_rows():
    one = claimed("b:0", [0, 0], prior=[TaskResult(0, TaskStatus.QUEUED, attempts=1)], attempt=3)
    one.note(1, 5.0, "w-1")
    assert {r.index: (r.status, r.attempts) for r in one.rows_to_release()} == {
        0: (TaskStatus.QUEUED, 1),
    }


@pytest.mark.parametrize(
    ("row", "error", "spent"),
    [
        (TaskResult(0, TaskStatus.QUEUED, None, "503", 2), "503", 2),
        (TaskResult(0, TaskStatus.RUNNING, attempts=2, progress=[1, 2]), None, 2),
        (TaskResult(0, TaskStatus.RUNNING, attempts=2, worker_id="w-1"), LOST, 2),
        (TaskResult(0, TaskStatus.RUNNING, attempts=2, worker_id="w-1", progress=[1, 2]), LOST, 2),
    ],
)
def test_what_a_row_says_to_a_later_claim(row, error, spent):
    one = claimed("b:0", [0], prior=[row], attempt=4)
    found = one.prior[0]
    assert (found.status, found.error, found.progress) == (TaskStatus.QUEUED, error, None)
    assert one.attempts_spent(0) == spent


def test_a_note_takes_the_place_of_the_one_before_and_counts_the_attempt():
    one = claimed("b:0", [0, 0], attempt=3)
    one.note(0, 5.0, "w-1")
    one.note(1, 6.0, "w-1")
    one.report(1, 6.0, [1, 2])
    assert one.rows() == [
        TaskResult(
            1,
            TaskStatus.RUNNING,
            attempts=1,
            started_at=6.0,
            worker_id="w-1",
            progress=[1, 2],
        )
    ]


# --- careful bundles ------------------------------------------------------------------------


def test_of_all_careful_bundles_one_task_runs_at_a_time_the_least_charged_first():
    charged = TaskResult(0, TaskStatus.RUNNING, attempts=1, worker_id="w-1")
    one = claimed("b:0", [0, 0, 0], prior=[charged], attempt=3)
    two, usual = claimed("b:1", [0], attempt=4), claimed("b:2", [0, 0], attempt=2)
    work = workload()
    put(work, one, two, usual)
    first, beside = work.take(wait=False), work.take(wait=False)
    assert (first.claimed, indices(first)) == (one, [1])
    assert (beside.claimed, indices(beside)) == (usual, [0, 1])
    assert work.take(wait=False) is None
    taken = []
    while first is not None and first.claimed is one:
        taken += indices(first)
        ready = work.done(first, [], 0.0)
        first = work.take(wait=False)
    assert taken == [1, 2, 0]
    assert ready
    assert first is None  # not before the other has left the hand
    work.remove(one)
    assert work.take(wait=False).claimed is two


def test_a_task_at_its_last_chance_runs_alone_in_the_worker():
    work = workload()
    usual = claimed("b:1", [1000] * 3)
    put(work, usual)
    before = work.take(wait=False)
    one = claimed("b:0", [0, 0], attempt=3)
    one.last_chances.add(0)
    put(work, one)
    assert work.take(wait=False) is None
    assert not work.has_room()
    work.done(before, [], 1.0)
    alone = work.take(wait=False)
    assert (alone.claimed, indices(alone)) == (one, [0])
    assert work.take(wait=False) is None
    assert not work.has_room()
    work.done(alone, [], 0.0)
    assert {work.take(wait=False).claimed for _ in range(3)} == {one, usual}


def test_a_task_at_its_last_chance_holds_up_nobody_once_it_is_cancelled():
    work = workload()
    put(work, claimed("b:1", [1000] * 3))
    work.take(wait=False)
    one = claimed("b:0", [0], attempt=3)
    one.last_chances.add(0)
    put(work, one)
    assert work.take(wait=False) is None
    one.cancel_pending()
    assert work.take(wait=False) is not None


def test_a_careful_bundle_takes_up_one_slot_and_may_stay():
    clock = ManualClock(NOW)
    work = workload(threads=4, clock=clock)
    put(work, claimed("b:0", [1000] * 50, attempt=3), claimed("b:1", [1000] * 50, attempt=3))
    assert work.has_room()
    clock.sleep(OVERSTAY_S + 1)
    assert work.give_back_overdue() == []
    assert work.take(wait=False) is not None


def test_a_running_tasks_progress_is_among_the_rows_but_not_released():
    one = claimed("b:0", [0])
    one.running[0] = TaskResult(0, TaskStatus.RUNNING, progress=[3, 60])
    assert one.rows()[0].progress == [3, 60]
    assert one.rows_to_release() == []


def test_stop_actions_run_once_and_late_ones_at_once():
    one = claimed("b:0", [0])
    done = []
    forget = one.stopping.on_stop(lambda: done.append("forgotten"))
    forget()
    one.stopping.on_stop(lambda: done.append("first"))
    one.stop()
    one.stop()
    one.stopping.on_stop(lambda: done.append("late"))
    assert done == ["first", "late"]
