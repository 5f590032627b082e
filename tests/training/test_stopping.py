"""Signals that ask a run to stop; with several processes see test_processes.py."""

import signal
import threading

import pytest

from clip_jax.training.stopping import stop_on_signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop_after_the_step(number):
    with stop_on_signal() as stopping:
        assert not stopping(1)
        signal.raise_signal(number)
        assert stopping(1)
        assert stopping(2)


def test_a_second_ctrl_c_interrupts_at_once():
    with stop_on_signal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


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
