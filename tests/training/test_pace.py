"""Rates by a clock that the tests turn."""

import pytest

from clip_jax.training import pace as module
from clip_jax.training.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """A function: let so many seconds pass."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_rates_are_of_the_steps_since_the_last_ones(clock):
    pace = Pace(4, 32, peak=64.0)
    clock(10)  # compilation
    assert pace.restart(5) == 10
    clock(2)
    assert pace.rates(9) == {"samples_per_second": 64, "input_wait": 0, "mfu": 1}
    clock(4)
    assert pace.rates(10) == {"samples_per_second": 8, "input_wait": 0, "mfu": 0.125}


def test_the_first_step_alone_counts_with_what_came_before_it(clock):
    pace = Pace(4, 32, peak=None)
    clock(8)
    pace.restart(5)
    assert pace.rates(5) == {"samples_per_second": 4, "input_wait": 0}


def test_time_apart_is_no_part_of_the_steps(clock):
    pace = Pace(0, 8, None)
    clock(1)
    with pace.apart():
        clock(60)
    clock(1)
    assert pace.rates(2) == {"samples_per_second": 8, "input_wait": 0}


def test_the_wait_for_input_is_a_share_of_the_time(clock):
    pace = Pace(0, 1, None)
    with pace.waiting():
        clock(3)
    clock(1)
    pace.restart(1)
    assert pace.rates(1)["input_wait"] == 0.75
    for _ in range(2):
        with pace.waiting():
            clock(1)
        clock(7)
    assert pace.rates(3)["input_wait"] == 0.125
