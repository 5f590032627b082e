"""How fast a run goes: pairs a second, model FLOP utilisation, and the wait for input.

Times are taken on the host, where the loop is a step behind the devices: nothing waits for them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax

INPUT_WAIT = "wait for input"
"""What traces call it."""


@dataclass(frozen=True)
class _Moment:
    step: int
    seconds: float
    """By the clock, which stands still during `apart`."""
    waited: float
    """Seconds since the run's start."""


class Pace:
    """Rates between the steps at which they are asked for."""

    def __init__(self, start_step: int, batch_size: int, peak: float | None):
        """start_step: after which the run goes on.

        peak: pairs a second at which utilisation would be 1 (utilisation.pairs_at_peak); None if it
        is not known.
        """
        self._batch_size, self._peak = batch_size, peak
        self._waited = self._apart = 0.0
        self._start = self._last = self._now(start_step)

    def _now(self, step: int) -> _Moment:
        return _Moment(step, time.perf_counter() - self._apart, self._waited)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The block waits for input."""
        before = time.perf_counter()
        with jax.profiler.TraceAnnotation(INPUT_WAIT):
            yield
        self._waited += time.perf_counter() - before

    @contextmanager
    def apart(self) -> Iterator[None]:
        """The block is no part of the steps: its time does not count."""
        before = time.perf_counter()
        yield
        self._apart += time.perf_counter() - before

    def restart(self, step: int) -> float:
        """Count from here, where `step` has been made; seconds since the start."""
        self._last = self._now(step)
        return self._last.seconds - self._start.seconds

    def rates(self, step: int) -> dict[str, float]:
        """Of the steps since this or `restart` was last called; of the first step alone, with all
        that came before it.

        samples_per_second; input_wait, the share of the time in which the loop waited for a batch;
        mfu where the devices' peak is known.
        """
        since = self._last if step > self._last.step else self._start
        now = self._now(step)
        self._last, seconds = now, now.seconds - since.seconds
        rate = (step - since.step) * self._batch_size / seconds
        rates = {
            "samples_per_second": rate,
            "input_wait": (now.waited - since.waited) / seconds,
        }
        return rates | ({} if self._peak is None else {"mfu": rate / self._peak})
