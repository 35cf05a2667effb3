import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.pace import Pace, Sample

seconds = st.lists(st.floats(0, 1e4), min_size=1, max_size=40)


def sample(values):
    made = Sample()
    for value in values:
        made = made.add(value)
    return made


def test_an_empty_sample_changes_nothing():
    assert Pace(3, 1.0, 0.5).learn(Sample()) == Pace(3, 1.0, 0.5)


@given(seconds)
def test_the_first_sample_gives_mean_and_variance(values):
    pace = Pace().learn(sample(values))
    assert pace.tasks == len(values)
    assert pace.mean_s == pytest.approx(statistics.fmean(values))
    assert pace.variance_s2 == pytest.approx(statistics.pvariance(values), abs=1e-3, rel=1e-6)


@given(seconds, seconds)
def test_the_mean_stays_between_the_old_mean_and_the_sample_s(before, after):
    old = Pace().learn(sample(before))
    new = old.learn(sample(after))
    low, high = sorted([old.mean_s, statistics.fmean(after)])
    assert low - 1e-6 <= new.mean_s <= high + 1e-6
    assert new.variance_s2 >= 0
    assert new.cautious_s >= new.mean_s


def test_it_follows_a_kind_that_changes():
    pace = Pace().learn(sample([0.1] * 1000))
    for _ in range(10):
        pace = pace.learn(sample([2.0] * 20))
    assert pace.mean_s == pytest.approx(2.0, rel=0.05)


def test_it_converges_to_mean_and_deviation_of_a_steady_kind():
    rng = random.Random(1)
    pace = Pace()
    for _ in range(200):
        pace = pace.learn(sample([rng.lognormvariate(-1.2, 0.5) for _ in range(10)]))
    assert pace.mean_s == pytest.approx(0.341, rel=0.15)
    assert pace.cautious_s - pace.mean_s == pytest.approx(0.182, rel=0.4)


def test_samples_add_up():
    assert sample([1.0, 2.0]) + sample([3.0]) == sample([1.0, 2.0, 3.0])
