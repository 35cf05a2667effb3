"""The recorder: counters and distributions by label, read as a whole."""

from __future__ import annotations

import threading

from taskfleet.measure import (
    AWS_CALLS,
    BOUNDS_S,
    NOTHING,
    OTHER,
    QUEUE_SECONDS,
    RETRIES,
    SERIES_MAX,
    TASKS,
    Recorder,
)


def test_counts_add_up_by_label() -> None:
    recorder = Recorder()
    recorder.count(TASKS, "sleep", "succeeded", by=3)
    recorder.count(TASKS, "sleep", "succeeded")
    recorder.count(TASKS, "sleep", "failed")
    assert recorder.read().counts == {
        (TASKS, ("sleep", "succeeded")): 4,
        (TASKS, ("sleep", "failed")): 1,
    }


def test_a_distribution_has_a_count_and_a_sum_for_each_bucket() -> None:
    recorder = Recorder()
    recorder.observe(QUEUE_SECONDS, [0.0, 0.0001, 0.3, 0.5, 5_000.0, -1.0])
    time = recorder.read().times[QUEUE_SECONDS, ()]
    assert sum(time.counts) == 6
    assert time.counts[0] == 3  # a bound belongs to its bucket; a clock that is behind counts as 0
    assert time.counts[BOUNDS_S.index(0.5)] == 2
    assert time.sums[BOUNDS_S.index(0.5)] == 0.8
    assert (time.counts[-1], time.sums[-1]) == (1, 5_000.0)


def test_a_reading_does_not_change_later() -> None:
    recorder = Recorder()
    recorder.observe(QUEUE_SECONDS, [1.0])
    before = recorder.read()
    recorder.observe(QUEUE_SECONDS, [1.0])
    assert sum(before.times[QUEUE_SECONDS, ()].counts) == 1


def test_a_difference_has_what_changed_only() -> None:
    calls = {("sqs", "ReceiveMessage"): 2}
    recorder = Recorder(lambda: dict(calls))
    recorder.count(RETRIES, "sleep")
    recorder.observe(QUEUE_SECONDS, [1.0, 2.0])
    first = recorder.read()
    assert (first - NOTHING) == first
    recorder.count(RETRIES, "other kind", by=2)
    calls["sqs", "ReceiveMessage"] = 7
    since = recorder.read() - first
    assert since.counts == {
        (RETRIES, ("other kind",)): 2,
        (AWS_CALLS, ("sqs", "ReceiveMessage")): 5,
    }
    assert since.times == {}


def test_names_of_strangers_do_not_multiply_series() -> None:
    recorder = Recorder()
    for number in range(3 * SERIES_MAX):
        recorder.count(RETRIES, f"kind {number}")
        recorder.observe(TASKS, [1.0], f"kind {number}", "failed")
    reading = recorder.read()
    assert len(reading.counts) == SERIES_MAX + 1
    assert reading.counts[RETRIES, (OTHER,)] == 2 * SERIES_MAX
    assert (TASKS, (OTHER, OTHER)) in reading.times


def test_no_addition_is_lost_between_threads() -> None:
    recorder = Recorder()

    def add() -> None:
        for _ in range(2_000):
            recorder.count(RETRIES, "sleep")
            recorder.observe(QUEUE_SECONDS, [1.0])

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading = recorder.read()
    assert reading.counts[RETRIES, ("sleep",)] == 8_000
    assert sum(reading.times[QUEUE_SECONDS, ()].counts) == 8_000
