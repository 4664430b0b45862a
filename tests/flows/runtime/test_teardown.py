"""The end of a process: its exit code holds, whatever its threads are in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import atexit, sys, threading, time
from flows.runtime.teardown import Ending
ending = Ending()
"""


def run(code, **more):
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        check=False,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        **more,
    )


def test_what_is_to_be_done_at_exit_is_done_and_the_interpreter_is_not_taken_apart():
    ended = run(
        """
class Last:
    def __del__(self):
        print("taken apart")

last = Last()
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.3), print("a thread that is waited for"))).start()
threading.Thread(target=time.sleep, args=[60], daemon=True).start()
print("no newline", end=", ")
sys.exit(ending(3))
""",
        capture_output=True,
    )
    assert ended.returncode == 3
    assert ended.stdout == "no newline, a thread that is waited for\nat exit\n"
    assert ended.stderr == ""


@pytest.mark.parametrize(("end", "code"), [("raise ValueError('oh')", 1), ("sys.exit(7)", 7)])
def test_without_a_code_of_its_own_a_process_ends_as_python_does(end, code):
    ended = run(end, capture_output=True)
    assert ended.returncode == code
    assert ("ValueError: oh" in ended.stderr) is (code == 1)


def test_output_that_can_not_be_written_is_told_of():
    with Path("/dev/full").open("w") as full:
        ended = run("print('lost'); sys.exit(ending(0))", stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode != 0
    assert os.strerror(28) in ended.stderr
