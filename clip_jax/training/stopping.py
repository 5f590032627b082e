"""Stopping a run between two updates when a signal asks for it; at once at a second one."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental.multihost_utils import reached_preemption_sync_point

INTERRUPTED = 130
"""Exit code of a run that was asked to stop, whichever signal did; the shell's for Ctrl-C."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[int], bool]]:
    """Yields a function that tells, after update number `step`, whether the run is to stop there.

    Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away, ask for it; a second
    one ends the process at once. Interrupted at any moment, a step would leave a state that is
    neither the old nor the new one.

    Of several processes all stop after the same step, within about two seconds of one being asked:
    JAX's preemption service agrees on the step while the devices go on. Each process asks after
    every step. Until then the service ignores further SIGTERMs.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield lambda step: False
        return
    together, asked = jax.distributed.is_initialized(), threading.Event()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def ask(number: int, frame: Any) -> None:
        asked.set()
        if together:
            os.kill(os.getpid(), signal.SIGTERM)  # for which the preemption service listens

    def agreed(step: int) -> bool:
        stop: bool = reached_preemption_sync_point(step)
        if stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the service would go on ignoring it
        return stop

    signal.signal(signal.SIGINT, ask)
    if together:
        before[signal.SIGTERM] = signal.SIG_DFL
    else:
        signal.signal(signal.SIGTERM, ask)
    try:
        with _end_at_second_signal():
            yield agreed if together else lambda step: asked.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _end_at_second_signal() -> Iterator[None]:
    """While the main thread computes, its handlers have to wait; a thread that reads does not."""
    told, tell = socket.socketpair()
    tell.setblocking(False)

    def watch() -> None:
        if told.recv(1) and told.recv(1):
            os._exit(INTERRUPTED)

    previous = signal.set_wakeup_fd(tell.fileno())
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        tell.close()
        thread.join()
        told.close()
