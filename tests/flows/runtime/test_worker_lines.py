"""Which of a worker's lines its operator sees."""

from __future__ import annotations

import pytest

from flows.runtime.supervisor import is_waiting_for_a_peer


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        (
            b"process 1:\terror connecting to worker 0: Connection refused (os error 111); retrying",
            True,
        ),
        (b'{"event": "Connection refused", "level": "warning"}', False),
        (b"thread panicked: error connecting to worker 0", False),
    ],
)
def test_a_process_that_waits_for_its_cluster_is_no_error_on_the_screen(line, hidden):
    assert is_waiting_for_a_peer(line) is hidden
