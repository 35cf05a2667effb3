"""The promises of `TaskMonitor` about the paces of kinds."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from taskfleet.pace import Pace, Sample


def test_a_kind_that_never_ran_has_no_pace(world):
    assert world.monitor.paces(["nobody-ran-this"]) == {}
    assert world.monitor.paces([]) == {}


def test_kinds_learn_from_samples(world):
    world.monitor.learn({"quick": Sample(2, 1.0, 0.5), "slow": Sample(1, 9.0, 81.0)})
    paces = world.monitor.paces(["quick", "slow", "other"])
    assert paces == {"quick": Pace(2, 0.5, 0.0, 0.5, 0.0), "slow": Pace(1, 9.0, 0.0, 9.0, 0.0)}
    world.monitor.learn({"quick": Sample(2, 3.0, 4.5)})
    assert world.monitor.paces(["quick"])["quick"].tasks == 4
    assert world.monitor.paces(["quick"])["quick"].mean_s == pytest.approx(1.0)
    assert world.monitor.paces(["slow"]) == {"slow": paces["slow"]}


def test_samples_learned_at_once_are_all_learned(world):
    def learn(_: int) -> None:
        for _ in range(5):
            world.monitor.learn({"shared": Sample(2, 1.0, 0.5)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(learn, range(8)))
    pace = world.monitor.paces(["shared"])["shared"]
    assert pace.tasks == 80
    assert pace.mean_s == pytest.approx(0.5)
