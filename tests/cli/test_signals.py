"""Signals: the first asks the work to stop after its step, the second ends the process, whatever it is doing."""

import signal
import subprocess
import sys

import pytest

GENTLE = """
import hashlib, sys
import cellssl.cli.app
from cellssl.cli.signals import StopSignals
from cellssl.events import Note

def work():
    yield Note("begins")
    print("computing", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", ROUNDS)  # one call of a C library
    yield Note("step")
    print("went on", flush=True)
    yield Note("next")

sys.modules["cellssl.cli.app"].app = lambda *_, **__: StopSignals().run(work(), lambda event: None)
cellssl.cli.main()
"""
SWALLOWING = """
import sys, time
import cellssl.cli.app

def app(*_, **__):
    print("computing", flush=True)
    while True:
        try:
            time.sleep(0.1)
        except BaseException:
            HANDLE

sys.modules["cellssl.cli.app"].app = app
cellssl.cli.main()
"""


def stopped(script: str, *signals: signal.Signals) -> tuple[int, str, str]:
    """Run a script, send it a signal when it computes, and the next one when it has answered."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "computing\n"
    answers = []
    for place, number in enumerate(signals, start=1):
        process.send_signal(number)
        if place < len(signals):
            answers.append(process.stderr.readline())
    try:
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    return process.returncode, out, "".join(answers) + err


def test_a_first_signal_lets_the_step_end_and_says_so_before() -> None:
    code, out, err = stopped(GENTLE.replace("ROUNDS", "2_000_000"), signal.SIGINT)
    assert code == 130 and out == "" and "Traceback" not in err
    first, second, *_ = err.splitlines()
    assert first == "stopping after this step; the same signal again stops at once"
    assert second == "error: stopped by SIGINT; what is done so far is kept"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_a_process_within_a_call_that_takes_hours(number: signal.Signals, code: int) -> None:
    ended, out, err = stopped(GENTLE.replace("ROUNDS", "2_000_000_000"), number, number)
    assert ended == code and out == "" and "Traceback" not in err
    assert err.count("stopped by") == 1 and err.startswith("stopping after this step")


@pytest.mark.parametrize("handle", ["pass", "raise ImportError('cannot import name')"])
def test_a_library_that_swallows_or_changes_the_exception_of_a_signal_does_not_keep_the_process(handle: str) -> None:
    ended, out, err = stopped(SWALLOWING.replace("HANDLE", handle), signal.SIGTERM)
    assert ended == 143 and out == "" and err.splitlines()[0].startswith("error: stopped by SIGTERM"), err
    assert "Traceback" not in err and err.count("stopped by") == 1
