"""Which runner takes the next chunk: one of the same owner, and how many wait."""

from __future__ import annotations

import pytest

from ec2_worker.runner.pool import Pool


class Runner:
    def __init__(self, number):
        self.number = number
        self.owner = ""
        self.fit = True
        self.tasks_run = self.resident_mb = 0
        self.ended = False

    def end(self):
        self.ended = True

    def close(self):
        """Nothing to close."""


class Server:
    def __init__(self):
        self.forked = []

    def fork(self):
        self.forked.append(Runner(len(self.forked)))
        return self.forked[-1]

    def close(self):
        """Nothing to close."""


@pytest.fixture
def server():
    return Server()


def use(pool, *owners):
    """Take a runner for each owner at the same time, and give them back in this order."""
    taken = [pool.take(owner) for owner in owners]
    for runner in taken:
        pool.give(runner)
    return [runner.number for runner in taken]


def test_a_runner_never_changes_its_owner(server):
    pool = Pool(server)
    assert use(pool, "", "alice", "bob") == [0, 1, 2]
    assert use(pool, "bob", "", "alice", "alice") == [2, 0, 1, 3]
    assert [runner.owner for runner in server.forked] == ["", "alice", "bob", "alice"]


def test_the_one_that_was_used_last_is_used_next(server):
    pool = Pool(server)
    use(pool, "alice", "alice")
    assert use(pool, "alice") == [1]


def test_one_that_died_while_it_waited_is_not_used(server):
    pool = Pool(server)
    use(pool, "alice")
    server.forked[0].fit = False
    assert use(pool, "alice") == [1]
    assert server.forked[0].ended


def test_of_several_owners_those_go_that_were_used_longest_ago(server):
    pool = Pool(server, max_free=3)
    for owner in ("a", "b", "c", "a", "d"):
        use(pool, owner)
    assert [runner.number for runner in server.forked if runner.ended] == [1]
    assert use(pool, "a", "c", "d") == [0, 2, 3]


def test_one_owner_keeps_as_many_as_it_uses(server):
    pool = Pool(server, max_free=3)
    use(pool, *["a"] * 10)
    assert not any(runner.ended for runner in server.forked)
    use(pool, "b")
    assert sum(runner.ended for runner in server.forked) == 1


def test_after_the_end_none_is_kept(server):
    pool = Pool(server)
    runner = pool.take("a")
    pool.close()
    pool.give(runner)
    assert runner.ended
