"""Ctrl-C that comes while Python runs a callback: it would be lost, with a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import signal, time, weakref
from penstock.cli.interrupts import keep_interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
class Thing:
    pass
def late(*_):
    signal.raise_signal(signal.SIGINT)
"""

LOST = [
    "Thing.__del__ = late; thing = Thing(); del thing",
    "thing = Thing(); seen = weakref.ref(thing, late); del thing",
]


def run(code):
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize("lost", LOST)
def test_it_comes_again_a_moment_later(lost):
    ended = run(
        f"""
keep_interrupts()
try:
    {lost}
    print("lost")
    time.sleep(600)  # more than the test has
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert ended.stdout == "lost\ninterrupted\n"
    assert ended.stderr == ""


def test_a_handler_of_its_own_is_called():
    ended = run(
        f"""
keep_interrupts()
came = []
{LOST[0]}
signal.signal(signal.SIGINT, lambda *_: came.append(True))
while not came:
    time.sleep(0.01)
print("handled")
"""
    )
    assert (ended.stdout, ended.stderr) == ("handled\n", "")


def test_other_errors_are_told_as_ever():
    ended = run("Thing.__del__ = lambda self: 1 / 0\nkeep_interrupts(); Thing()")
    assert ended.returncode == 0
    assert "ZeroDivisionError" in ended.stderr


def test_that_one_is_lost_without_it():
    """What all this is for: where Python stops losing it, this can go."""
    ended = run(LOST[0])
    assert ended.returncode == 0
    assert "KeyboardInterrupt" in ended.stderr
