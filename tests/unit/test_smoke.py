"""The order of a smoke test, its cap, and its trial: what it takes for a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import smoke, trial
from infra.smoke import Refused, Steps, check_cap, most_usd
from infra.trial import SLEEPS, Seen, Trial, TrialFailed
from taskfleet.memory import ManualClock, MemoryFleet
from taskfleet.ports import QueueDepth
from taskfleet.provisioner.records import Instance, InstanceState
from taskfleet.task import TaskStatus

# --- the cap ---


def test_a_run_of_one_machine_is_far_below_the_cap() -> None:
    assert most_usd(1, smoke.MACHINE_USD_PER_HOUR, smoke.DEADLINE_S) < 0.35
    assert check_cap(1, 0.20, 1_800, 1.0) == pytest.approx(0.31)


@pytest.mark.parametrize(("machines", "price"), [(10, 0.2), (1, 1.0)])
def test_a_run_that_could_cost_more_than_the_cap_does_not_begin(
    machines: int, price: float
) -> None:
    with pytest.raises(Refused, match=r"could cost \$\d\.\d\d, more than the cap of \$1"):
        check_cap(machines, price, 1_800, 1.0)


# --- the order ---


class Told:
    """Steps that write down that they were taken, one of which may fail."""

    def __init__(self, failing: str = "", error: BaseException | None = None) -> None:
        self.taken: list[str] = []
        self._failing, self._error = failing, error

    def step(self, name: str, result: Any = None) -> Callable[..., Any]:
        def take(*_: Any) -> Any:
            self.taken.append(name)
            if name == self._failing and self._error is not None:
                raise self._error
            return result

        return take

    def run(self, *, keep: bool = False) -> list[str]:
        said: list[str] = []
        steps = Steps(
            self.step("deploy", ("url", "token")),
            self.step("trial", 0.01),
            self.step("destroy"),
        )
        try:
            smoke.run(steps, keep=keep, stage="dev", say=said.append)
        except BaseException as error:
            if error is not self._error:
                raise
        return said


@pytest.mark.parametrize("error", [TrialFailed("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["", "deploy", "trial"])
def test_the_stage_is_torn_down_whatever_happens(failing: str, error: BaseException) -> None:
    told = Told(failing, error)
    told.run()
    assert told.taken[-1] == "destroy"


def test_a_stage_is_kept_when_asked_to_and_how_to_delete_it_is_said() -> None:
    told = Told("trial", TrialFailed("no"))
    said = told.run(keep=True)
    assert told.taken == ["deploy", "trial"]
    assert "make destroy STAGE=dev" in said[-1]


def test_a_teardown_that_fails_is_told() -> None:
    said = Told("destroy", TrialFailed("no")).run()
    assert "PARTS OF THE STAGE ARE LEFT" in said[-1]


# --- the trial ---


class Api:
    """A client whose tasks succeed, but for what a test changes in `rows`."""

    def __init__(self, clock: ManualClock, fleet: MemoryFleet) -> None:
        self._clock, self._fleet = clock, fleet
        self.change: Callable[[list[Any]], list[Any]] = lambda rows: rows
        self.machines = 1
        self._tasks: list[Any] = []

    def submit(self, tasks: list[Any], name: str) -> Any:
        self._tasks = tasks
        if self.machines:
            self._fleet.launch(self.machines, token="t")
        return SimpleNamespace(batch_id="b")

    def wait(self, _batch: str, _timeout_s: float, on_progress: Callable[[Any], None]) -> Any:
        self._clock.sleep(10)
        on_progress(None)
        return SimpleNamespace(batch_id="b", cost_usd=0.001)

    def results(self, _batch: str) -> list[Any]:
        done = {"status": TaskStatus.SUCCEEDED, "error": None}
        done["result"] = {"url": "http://movie", "bytes": 12}
        rows = [SimpleNamespace(index=i, task=t, **done) for i, t in enumerate(self._tasks)]
        return self.change(rows)

    def upload(self, _file: Any) -> str:
        return "u"


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
        for name in trial.PICTURES:
            (pictures / name).touch()
        self.clock = ManualClock()
        self.fleet = MemoryFleet(self.clock)
        self.api = Api(self.clock, self.fleet)
        self.movie = b"....ftypisom"
        self.dead = QueueDepth(0, 0)
        self.leaves = True
        self.said: list[str] = []
        answer = SimpleNamespace(raise_for_status=lambda: None)
        monkeypatch.setattr(
            trial.requests,
            "get",
            lambda *_, **__: (setattr(answer, "content", self.movie), answer)[1],
        )
        client: Any = self.api
        self.trial = Trial(
            client, self.fleet, [self.depth], pictures, 45.0, 1e12, self.clock, self.said.append
        )

    def depth(self) -> QueueDepth:
        """The last thing that is looked at before the machines leave."""
        if self.leaves:
            self.fleet.terminate([one.instance_id for one in self.fleet.instances()])
        return self.dead


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path)


def test_a_stage_that_works_passes(world: World) -> None:
    world.trial.run()
    assert len(world.said) == 4
    assert world.trial.calls_usd == 0.002
    assert list(world.trial.seen.machines) == list(world.trial.seen.gone_at)


def lose_one(rows: list[Any]) -> list[Any]:
    return rows[:-1]


def double_one(rows: list[Any]) -> list[Any]:
    return [rows[0], *rows]


def fail_one(rows: list[Any]) -> list[Any]:
    rows[3:4] = [SimpleNamespace(**{**vars(rows[3]), "status": TaskStatus.FAILED, "error": "e"})]
    return rows


def swap_one(rows: list[Any]) -> list[Any]:
    rows[0].task = SLEEPS[1]
    return rows


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lose_one, "100 tasks have the results"),
        (double_one, "100 tasks have the results"),
        (fail_one, "task 3 is FAILED: e"),
        (swap_one, "task 0 was 'sleep 0' and is told as 'sleep 1'"),
    ],
)
def test_results_that_are_not_one_for_each_task_fail(
    world: World, change: Callable[[list[Any]], list[Any]], why: str
) -> None:
    world.api.change = change
    with pytest.raises(TrialFailed, match=why):
        world.trial.run()


def test_a_movie_that_is_none_fails(world: World) -> None:
    world.movie = b"<html></htm>"
    with pytest.raises(TrialFailed, match="no MP4"):
        world.trial.run()


def test_dead_letters_fail(world: World) -> None:
    world.dead = QueueDepth(2, 0)
    with pytest.raises(TrialFailed, match="2 messages became dead letters"):
        world.trial.run()


def test_a_machine_that_stays_fails(world: World) -> None:
    world.leaves = False
    with pytest.raises(TrialFailed, match=r"i-0+1 still run after 165 idle seconds"):
        world.trial.run()


def test_a_stage_whose_work_is_done_elsewhere_fails(world: World) -> None:
    world.api.machines = 0
    with pytest.raises(TrialFailed, match="no machine of the stage was ever seen"):
        world.trial.run()


def test_seconds_of_machines_are_counted_from_launch_until_they_were_seen_gone() -> None:
    seen = Seen()
    first = Instance("i-1", InstanceState.RUNNING, 100.0, "c7g.large", spot=True)
    seen.look([first], 110.0)
    seen.look([Instance("i-1", InstanceState.ENDING, 100.0, "c7g.large")], 130.0)
    seen.look([], 150.0)
    assert (seen.left, seen.seconds(200.0)) == ([], 30.0)
