"""The sink kit, run over the sinks of this package; a broken sink is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectors.file import FileSink
from connectors.file.settings import FileSinkSettings
from connectors.stdout import StdoutSettings, StdoutSink
from connectors.testing import SinkConformance
from connectors.webhook import SINK_WEBHOOK
from tests.transforms.steps.answering import Answer, Server, serving


class FileUnderTest:
    def __init__(self, folder, **settings):
        self.folder = folder
        config = {"path": str(folder / "out.jsonl"), "format": "json", **settings}
        self.settings = FileSinkSettings.model_validate(config)

    def make(self):
        return FileSink("out", self.settings)

    def arrived(self):
        files = sorted(self.folder.glob("out.0*.jsonl")) + sorted(self.folder.glob("out.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def refuse(self, numbers):
        return False


class TestFileSink(SinkConformance):
    @pytest.fixture
    def subject(self, tmp_path):
        return FileUnderTest(tmp_path)


class TestRotatedFileSink(SinkConformance):
    @pytest.fixture
    def subject(self, tmp_path):
        return FileUnderTest(tmp_path, rotate="200B")


class StdoutUnderTest:
    def __init__(self, path):
        self.path = path
        self.stream = path.open("ab")

    def make(self):
        return StdoutSink("console", StdoutSettings(format="json"), stream=self.stream)

    def arrived(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def refuse(self, numbers):
        return False


class TestStdoutSink(SinkConformance):
    @pytest.fixture
    def subject(self, tmp_path):
        found = StdoutUnderTest(tmp_path / "stdout")
        yield found
        found.stream.close()


class WebhookUnderTest:
    def __init__(self, server: Server, proxy):
        self.server = server
        self.proxy = proxy
        self.refused = frozenset()
        server.answer = lambda seen: Answer(422 if self.number(seen) in self.refused else 200)

    def number(self, seen):
        return json.loads(seen.body)["n"] if seen.body else None

    def make(self, **config):
        settings = SINK_WEBHOOK.settings(**{"url": self.server.url, **config})
        return SINK_WEBHOOK.sink("hook", settings)

    def make_proxied(self, **config):
        return self.make(url=f"http://{self.proxy.address}", **config)

    def make_impatient(self):
        return self.make_proxied(timeout="1s")

    def arrived(self):
        with self.server.lock:
            seen = list(self.server.seen)
        found = [json.loads(one.body) for one in seen if one.body]
        return [data for data in found if data["n"] not in self.refused]

    def refuse(self, numbers):
        self.refused = frozenset(numbers)
        return True


class TestWebhookSink(SinkConformance):
    @pytest.fixture
    def subject(self, proxies):
        with serving() as server:
            yield WebhookUnderTest(server, proxies(f"127.0.0.1:{server.port}"))


class Forgets(FileSink):
    def deliver(self, events):
        return super().deliver(events) if len(events) != 50 else {}


class KeepsNoState(FileSink):
    def settled_state(self):
        return {}


class Leaks(FileSink):
    left = ()

    def close(self):
        super().close()
        Leaks.left += (Path("/dev/null").open("rb"),)  # noqa: SIM115 - left open on purpose


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "check", "message"),
    [
        (Forgets, "test_all_that_was_delivered_is_there_in_order_per_key", "arrived"),
        (
            KeepsNoState,
            "test_a_restart_with_the_settled_state_loses_nothing_and_keeps_its_promise",
            "arrived",
        ),
        (Leaks, "test_closing_leaves_no_thread_and_no_connection", "/dev/null"),
    ],
)
def test_a_broken_promise_is_found(tmp_path, monkeypatch, kind, check, message):
    monkeypatch.setattr("connectors.testing.delivering.PATIENCE", 0.5)
    subject = FileUnderTest(tmp_path)
    subject.make = lambda: kind("out", subject.settings)
    with pytest.raises(AssertionError, match=message):
        getattr(SinkConformance(), check)(subject)
    for file in Leaks.left:
        file.close()
