import os
import signal
import threading

import pytest

from heads.runs.termination import STATUS, ends_on_sigterm


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_is_one_line_and_status_143(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ends_on_sigterm("; go on"):
        terminate()
    assert ended.value.code == STATUS and capsys.readouterr().err == "siglip2: terminated; go on\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_the_signal_breaks_is_the_signal_s(capsys):
    with pytest.raises(SystemExit) as ended, ends_on_sigterm(""):
        try:
            terminate()
        finally:
            raise RuntimeError("DataLoader worker is killed by signal: Terminated")
    assert ended.value.code == STATUS


def test_a_second_signal_does_not_interrupt_the_cleaning_up():
    cleaned = False
    with pytest.raises(SystemExit), ends_on_sigterm(""):
        try:
            terminate()
        finally:
            terminate()
            cleaned = True
    assert cleaned


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="other"), ends_on_sigterm(""):
        raise RuntimeError("other")


def test_outside_the_main_thread_signals_are_left_alone():
    found = []

    def run():
        with ends_on_sigterm(""):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
