"""A flow to sinks that keep no state, killed where it hurts: nothing is missing, and a repeat is known by its id."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.policy import default

import psycopg
import pytest
from aiosmtpd.controller import Controller

from penstock.embedded.processes import free_port
from tests.chaos.worker_process import WorkerProcess
from tests.flows.runtime.running import FlowFolder, cdc_source, pipeline, publish
from tests.transforms.steps.answering import as_json, serving

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]

POINTS = [
    "after_effects_before_settle:2",
    "after_settle_before_checkpoint:2",
    "after_checkpoint_before_acknowledge",
]


class Postbox:
    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"


@pytest.fixture
def postbox():
    box = Postbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    box.port = server.port
    yield box
    server.stop()


def test_kills_lose_nothing_and_a_repeat_has_the_same_id(tmp_path, database, search, postbox):
    index = search.create_index()
    flow = FlowFolder(tmp_path)
    with serving() as slack, psycopg.connect(database, autocommit=True) as connection:
        slack.answer = lambda seen: as_json({"ok": True})
        mail = {
            "host": "127.0.0.1",
            "port": postbox.port,
            "security": "none",
            "from": "shop@example.com",
            "to": ["a@example.com"],
            "subject": "{{ .data.id }}",
            "text": "{{ .data }}",
        }
        message = {"token": "x", "channel": "#a", "api_url": slack.url, "text": "{{ .data.id }}"}
        modules = {
            "docs": ("sink.elasticsearch", {"urls": [search.url], "index": index}),
            "mails": ("sink.email", mail),
            "messages": ("notification.slack", message),
        }
        flow.write(
            modules=[
                cdc_source(database, f"ids_{index[-12:]}", "orders"),
                *(
                    {"name": name, "type": kind, "config": config}
                    for name, (kind, config) in modules.items()
                ),
            ],
            pipelines={name: pipeline("rows", publish(name)) for name in modules},
        )
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        rows = 0
        for point in [*POINTS, ""]:
            connection.execute(
                "INSERT INTO orders SELECT generate_series(%s::int, %s)", [rows + 1, rows + 40]
            )
            rows += 40
            worker = WorkerProcess(flow.path, "rows", fail_point=point, until_caught_up=True)
            assert worker.wait() in ({-9, 0} if point else {0}), worker.text()
        wanted = list(range(1, rows + 1))
        assert sorted(row["id"] for row in search.documents(index).values()) == wanted
        mails = {mail["Message-ID"]: int(mail["Subject"]) for mail in postbox.mails}
        assert sorted(mails.values()) == wanted
        texts = [int(json.loads(seen.body)["text"]) for seen in slack.seen]
        assert sorted(set(texts)) == wanted
