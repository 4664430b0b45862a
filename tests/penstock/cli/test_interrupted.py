"""Ctrl-C, as a terminal sends it: to the command and its workers, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.cli.app import main

pytestmark = [pytest.mark.slow]

_COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
print("Python is up", flush=True)
from penstock.__main__ import main
exit(main())
"""


@pytest.mark.parametrize("after", [0.01, 0.03, 0.06, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2])
def test_ctrl_c_shows_no_traceback_and_ends_at_once(after, tmp_path):
    flow = tmp_path / "flow.yaml"
    assert main(["init", str(flow), "--source", "kafka", "--sink", "file"]) == 0
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _COMMAND,
            "run",
            "flow.yaml",
        ],
        cwd=tmp_path,
        env={**os.environ, "KAFKA_BROKERS": "127.0.0.1:1", "PYTHONPATH": str(Path.cwd())},
        bufsize=0,  # nothing that `communicate` should read is read ahead
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        # Before that the interpreter alone answers.
        assert process.stdout.readline() == b"Python is up\n"
        time.sleep(after)  # any moment will do: none is waited for
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=40)[0].decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode in {130, 3}, said
    assert "Traceback" not in said
