"""The receiver of these tests: a real HTTP server."""

from __future__ import annotations

import threading

import pytest

from tests.connectors.webhook.receiver import Receiver


@pytest.fixture
def receiver():
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join(10)
    server.server_close()
