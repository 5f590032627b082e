"""Stopping a run between two updates, when a signal asks for it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental.multihost_utils import reached_preemption_sync_point


@contextmanager
def stop_on_signal() -> Iterator[Callable[[int], bool]]:
    """Yields a function that tells, after update number `step`, whether the run is to stop there.

    Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away, ask for it; a second
    Ctrl-C interrupts at once. Interrupted at any moment, a step would leave a state that is neither
    the old nor the new one.

    Of several processes all stop after the same step, within about two seconds of one being asked:
    JAX's preemption service agrees on the step while the devices go on. Each process asks after
    every step.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield lambda step: False
        return
    together, asked = jax.distributed.is_initialized(), threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        if together:
            os.kill(os.getpid(), signal.SIGTERM)  # for which the preemption service listens

    signal.signal(signal.SIGINT, ask)
    if together:
        before[signal.SIGTERM] = signal.SIG_DFL  # the service would go on ignoring it
    else:
        signal.signal(signal.SIGTERM, ask)
    try:
        yield reached_preemption_sync_point if together else lambda step: asked.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
