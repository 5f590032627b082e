"""Signals that ask a run to stop; with several processes see test_processes.py."""

import signal
import subprocess
import sys
import threading

import pytest

from clip_jax.training.stopping import INTERRUPTED, stop_on_signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop_after_the_step(number):
    with stop_on_signal() as stopping:
        assert not stopping(1)
        signal.raise_signal(number)
        assert stopping(1)
        assert stopping(2)


BUSY = """
import hashlib, signal
from clip_jax.training.stopping import stop_on_signal

with stop_on_signal():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes in which no handler runs
"""


def test_a_second_signal_ends_a_busy_process_at_once():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == INTERRUPTED


@pytest.mark.parametrize("number", [None, *SIGNALS])
def test_signals_have_their_usual_meaning_afterwards(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_on_signal():
        assert [signal.getsignal(each) for each in SIGNALS] != before
        if number is not None:
            signal.raise_signal(number)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_thread_is_not_asked():
    before, answers = signal.getsignal(signal.SIGINT), []

    def run():
        with stop_on_signal() as stopping:
            answers.append((stopping(1), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert answers == [(False, before)]
