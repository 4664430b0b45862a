"""sink.webhook against a real HTTP server that is slow, resets, refuses and redirects."""

from __future__ import annotations

import base64
import json
import socket
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.webhook import SINK_WEBHOOK, WEBHOOK_SENDER
from connectors.webhook.answers import retry_after
from tests.connectors.templates import compile_template
from tests.transforms.steps.answering import Answer, serving
from tests.transforms.steps.certificates import Authority


def events(*values, keys=None, topic=None, **attributes):
    shared = {"id": [str(n) for n in range(len(values))], "source": "/s", "type": "t", **attributes}
    encoded = [None if v is None else json.dumps(v).encode() for v in values]
    return Outgoing(encoded, keys or [None] * len(values), lambda: shared, topic)


@pytest.fixture
def opened():
    sinks = []

    def open_sink(kind=SINK_WEBHOOK, **config):
        sink = kind.sink("hook", kind.settings.model_validate(config))
        sink.open(SinkOpening({}, compile_template=compile_template))
        sinks.append(sink)
        return sink

    yield open_sink
    for sink in sinks:
        sink.close()


@pytest.mark.parametrize("line_format", ["cloudevents_binary", "cloudevents_structured", "json"])
def test_an_event_arrives_as_its_format_says(receiver, opened, line_format):
    sink = opened(url=receiver.url + "/in", format=line_format)
    assert sink.deliver(events({"n": 1}, subject="Müller 1")) == {}
    seen = receiver.seen[0]
    assert (seen.method, seen.path) == ("POST", "/in")
    if line_format == "cloudevents_structured":
        assert seen.headers["content-type"] == "application/cloudevents+json"
        document = json.loads(seen.body)
        assert (document["subject"], document["data"]) == ("Müller 1", {"n": 1})
        return
    assert seen.headers["content-type"] == "application/json"
    assert json.loads(seen.body) == {"n": 1}
    if line_format == "cloudevents_binary":
        assert seen.headers["ce-specversion"] == "1.0"
        assert unquote(seen.headers["ce-subject"]) == "Müller 1"
    else:
        assert not [name for name in seen.headers if name.startswith("ce-")]


def test_the_url_is_rendered_for_each_event(receiver, opened):
    sink = opened(url=receiver.url + "/{{ .type }}/{{ .data.shop }}", format="json", method="PUT")
    failures = sink.deliver(events({"shop": "a"}, {}, {"shop": "b"}, type="order"))
    assert list(failures) == [1]
    assert sorted((seen.method, seen.path) for seen in receiver.seen) == [
        ("PUT", "/order/a"),
        ("PUT", "/order/b"),
    ]


def test_our_headers_and_credentials_are_sent(receiver, opened):
    basic = {"username": "u", "password": "p"}
    opened(url=receiver.url, auth=basic, headers={"X-Shop": "7", "Content-Type": "text/x"}).deliver(
        events(1)
    )
    opened(url=receiver.url, auth={"bearer": "tok"}).deliver(events(1))
    first, second = receiver.seen
    assert first.headers["authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert (first.headers["x-shop"], first.headers["content-type"]) == ("7", "text/x")
    assert second.headers["authorization"] == "Bearer tok"


def test_events_of_a_key_arrive_in_order_while_other_keys_go_on(receiver, opened):
    both = threading.Barrier(2, timeout=20)

    def answer(seen):
        if json.loads(seen.body)[1] == 0:
            both.wait()  # passes only when both keys' first events are under way together
        return Answer()

    receiver.answer = answer
    sink = opened(url=receiver.url, format="json", concurrency=4)
    values = [[key, n] for n in range(10) for key in "ab"]
    assert sink.deliver(events(*values, keys=[key for key, _ in values])) == {}
    seen = [json.loads(seen.body) for seen in receiver.seen]
    assert [n for key, n in seen if key == "a"] == list(range(10))
    assert [n for key, n in seen if key == "b"] == list(range(10))


def test_no_more_than_concurrency_requests_are_under_way_and_connections_are_reused(
    receiver, opened
):
    sink = opened(url=receiver.url, concurrency=3)
    for _ in range(3):
        assert sink.deliver(events(*range(30))) == {}
    assert len(receiver.seen) == 90
    assert receiver.most_under_way <= 3
    assert receiver.connections <= 3


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_statuses_that_may_pass_later_are_retryable(receiver, opened, status):
    receiver.answer = lambda seen: Answer(status, b"busy", {"Retry-After": "7"})
    failures = opened(url=receiver.url).deliver(events(1))
    assert isinstance(failures[0], RetryableError)
    assert (failures[0].code, failures[0].retry_after) == ("webhook_status", 7.0)
    assert failures[0].context["status"] == status
    assert "busy" in failures[0].message


def test_retry_after_may_be_a_date():
    now = datetime(2026, 11, 21, 5, 0, tzinfo=timezone.utc)
    at = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after(at, now) == 90.0
    assert retry_after(format_datetime(now - timedelta(hours=1), usegmt=True), now) == 0.0
    assert retry_after(" 12 ", now) == 12.0
    assert retry_after("99999999999999999999", now) == 86400.0
    assert retry_after("soon", now) is None
    assert retry_after(None, now) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_other_refusals_are_permanent_and_show_a_short_body_without_secrets(
    receiver, opened, status
):
    receiver.answer = lambda seen: Answer(status, body=b"no hunter2 here " + b"x" * 5000)
    sink = opened(url=receiver.url + "/t0ken", auth={"bearer": "hunter2"})
    error = sink.deliver(events(1))[0]
    assert isinstance(error, PermanentError)
    assert (error.code, error.context["status"]) == ("webhook_status", status)
    assert "no *** here" in error.message
    assert len(error.message) < 400
    assert "t0ken" not in str(error)
    assert error.hint


def test_a_failed_event_leaves_the_others_delivered(receiver, opened):
    receiver.answer = lambda seen: Answer(422 if seen.body == b"2" else 200)
    failures = opened(url=receiver.url, format="json").deliver(events(1, 2, 3))
    assert list(failures) == [1]
    assert sorted(seen.body for seen in receiver.seen) == [b"1", b"2", b"3"]


def test_what_follows_a_retryable_failure_of_its_key_waits_for_it(receiver, opened):
    receiver.answer = lambda seen: Answer(503 if seen.body == b"1" else 200)
    sink = opened(url=receiver.url, format="json")
    failures = sink.deliver(events(0, 1, 2, 3, 4, keys=["a", "a", "a", "b", "a"]))
    assert {index: error.code for index, error in failures.items()} == {
        1: "webhook_status",
        2: "webhook_behind",
        4: "webhook_behind",
    }
    assert all(isinstance(error, RetryableError) for error in failures.values())
    assert sorted(seen.body for seen in receiver.seen) == [b"0", b"1", b"3"]


def test_what_follows_a_permanent_failure_of_its_key_is_sent(receiver, opened):
    receiver.answer = lambda seen: Answer(422 if seen.body == b"1" else 200)
    failures = opened(url=receiver.url, format="json").deliver(events(1, 2, keys=["a", "a"]))
    assert list(failures) == [0]


def test_a_cut_connection_is_retryable_and_the_next_delivery_works(receiver, opened):
    sink = opened(url=receiver.url)
    receiver.answer = lambda seen: Answer(reset=True)
    failures = sink.deliver(events(1))
    assert isinstance(failures[0], RetryableError)
    assert failures[0].code == "webhook_unreachable"
    receiver.answer = lambda seen: Answer()
    assert sink.deliver(events(1)) == {}


def test_an_answer_that_does_not_come_is_a_timeout(receiver, opened):
    receiver.answer = lambda seen: Answer(wait=receiver.released)
    failures = opened(url=receiver.url, timeout="100ms").deliver(events(1))
    assert isinstance(failures[0], RetryableError)
    assert failures[0].code == "webhook_timeout"


def test_a_receiver_that_is_away_is_retryable(opened):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    failures = opened(url=f"http://127.0.0.1:{port}").deliver(events(1))
    assert isinstance(failures[0], RetryableError)
    assert failures[0].code == "webhook_unreachable"


def test_redirects_are_not_followed_unless_asked_and_never_to_another_host(receiver, opened):
    def answer(seen):
        if seen.path == "/old":
            return Answer(307, headers={"Location": "/new"})
        if seen.path == "/away":
            return Answer(307, headers={"Location": "http://localhost:1/"})
        return Answer(200)

    receiver.answer = answer
    error = opened(url=receiver.url + "/old").deliver(events(1))[0]
    assert (type(error), error.code) == (PermanentError, "webhook_redirect")
    assert opened(url=receiver.url + "/old", follow_redirects=True).deliver(events(1)) == {}
    assert receiver.seen[-1].path == "/new"
    error = opened(url=receiver.url + "/away", follow_redirects=True).deliver(events(1))[0]
    assert error.code == "webhook_redirect"


def test_further_tries_stay_within_one_delivery(receiver, opened):
    answers = iter([Answer(503), Answer(reset=True), Answer(200)])
    receiver.answer = lambda seen: next(answers)
    assert opened(url=receiver.url, max_retries=2).deliver(events(1)) == {}
    assert len(receiver.seen) == 3


def test_a_sender_takes_its_url_from_the_topic_and_maxretries_as_written_elsewhere(
    receiver, opened
):
    sink = opened(WEBHOOK_SENDER, maxRetries=0)
    assert sink.traits.topics
    assert sink.deliver(events(1, topic=receiver.url + "/topic")) == {}
    assert receiver.seen[0].path == "/topic"
    assert isinstance(sink.deliver(events(1))[0], FatalError)
    assert sink.deliver(events(1, topic="orders"))[0].code == "webhook_request"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"url": "hooks"}, "a URL such as"),
        ({"url": "ftp://h/x"}, "a URL such as"),
        ({"url": "http://h", "headers": {"a b": "c"}}, "names that HTTP allows"),
        ({"url": "http://h", "headers": {"a": "b\r\nc: d"}}, "a value of one line"),
        ({"url": "http://h", "auth": {}}, "either bearer"),
        ({"url": "http://h", "timeout": "0s"}, "greater than or equal"),
    ],
)
def test_a_wrong_configuration_is_refused(config, expected):
    with pytest.raises(ValidationError, match=expected):
        SINK_WEBHOOK.settings.model_validate(config)


def test_an_environments_proxy_is_not_used(receiver, opened, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert opened(url=receiver.url).deliver(events(1)) == {}


def test_preflight_says_whether_the_host_answers(receiver):
    def check(url):
        settings = SINK_WEBHOOK.settings(url=url)
        return next(iter(SINK_WEBHOOK.sink("hook", settings).preflight([])))

    assert check(receiver.url + "/{{ .type }}").ok
    assert check("http://{{ .type }}/x").ok
    away = check("http://127.0.0.1:1/secret")
    assert (away.ok, away.unreachable) == (False, True)
    assert "secret" not in away.name + away.found
    assert receiver.seen == []


def test_closing_leaves_no_thread_and_no_connection(receiver, opened):
    before = set(threading.enumerate())
    sink = opened(url=receiver.url)
    sink.deliver(events(1, 2, 3))
    sockets = len(list(Path("/proc/self/fd").iterdir()))
    sink.close()
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("webhook-")]
    assert len(list(Path("/proc/self/fd").iterdir())) < sockets


@pytest.fixture
def private(tmp_path):
    """A receiver whose certificate is signed by an authority that only `ca.pem` names."""
    authority = Authority(tmp_path)
    with serving(authority.server_context()) as server:
        yield server, authority


def test_a_receiver_with_a_private_authority_is_reached_over_https(private, opened):
    server, authority = private
    sink = opened(url=server.url, ca_file=str(authority.ca))
    assert sink.deliver(events(1)) == {}
    assert [seen.body for seen in server.seen] == [b"1"]


def test_a_receiver_of_an_unknown_authority_gets_nothing_and_the_error_says_what_to_set(
    private, opened
):
    server, _ = private
    sink = opened(url=server.url)
    (error,) = sink.deliver(events(1)).values()
    assert "certificate" in error.message
    assert "ca_file" in error.hint
    assert server.seen == []


def test_an_authority_file_that_is_not_there_is_said_when_the_sink_is_opened(tmp_path, opened):
    with pytest.raises(FatalError) as caught:
        opened(url="https://127.0.0.1:1", ca_file=str(tmp_path / "nowhere.pem"))
    assert "nowhere.pem" in caught.value.message
