"""sink.stdout, in a process of its own where standard output matters."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from connectors.contracts import Outgoing, SinkOpening
from connectors.stdout import StdoutSettings, StdoutSink


def events(*values):
    shared = {"id": [str(n) for n in range(len(values))], "source": "/s", "type": "t"}
    return Outgoing(list(values), [None] * len(values), lambda: shared)


@pytest.mark.parametrize(
    ("line_format", "expected"),
    [
        ("json", [{"n": 1}, None]),
        (
            "cloudevents_json",
            [
                {"specversion": "1.0", "id": "0", "source": "/s", "type": "t", "data": {"n": 1}},
                {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"},
            ],
        ),
    ],
)
def test_each_event_is_a_line(line_format, expected):
    stream = io.BytesIO()
    sink = StdoutSink("console", StdoutSettings(format=line_format), stream=stream)
    sink.open(SinkOpening({}))
    assert sink.deliver(events(b'{\n"n": 1}', None)) == {}
    sink.close()
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == expected


CHILD = """
import sys
from connectors.contracts import Outgoing, SinkOpening
from connectors.stdout import StdoutSettings, StdoutSink
sink = StdoutSink("console", StdoutSettings(format="json"))
sink.open(SinkOpening({}))
for turn in range(100_000):
    failures = sink.deliver(Outgoing([b"1"] * 10, [None] * 10, dict))
    if failures:
        error = failures[9]
        print(len(failures), type(error).__name__, error.code, file=sys.stderr)
        break
sink.close()
"""


def test_a_reader_that_leaves_is_one_fatal_error_and_no_traceback():
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout.readline() == b"1\n"
    child.stdout.close()
    stderr = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=30) == 0
    assert stderr == b"10 FatalError stdout_closed\n"


def test_preflight_and_open_say_when_standard_output_is_closed():
    script = CHILD.split("for turn", maxsplit=1)[0].replace(
        "sink.open(", "print(list(sink.preflight([])), file=sys.stderr)\nsink.open("
    )
    command = f'exec "{sys.executable}" -c "$0" >&-'
    done = subprocess.run(
        ["/bin/sh", "-c", command, script], capture_output=True, timeout=30, check=False
    )
    assert b"found='closed'" in done.stderr
    assert b"standard output is closed." in done.stderr
