"""sink.slack against a server of ours that answers as Slack's pages say; Slack itself can't be had here."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.slack import NOTIFICATION_SLACK, SINK_SLACK
from connectors.testing import SinkConformance
from tests.connectors.templates import compile_template
from tests.transforms.steps.answering import Answer, as_json, serving


@pytest.fixture
def slack():
    with serving() as server:
        server.answer = lambda seen: as_json({"ok": True})
        yield server


def events(*rows, **attributes):
    shared = {"id": [str(n) for n in range(len(rows))], "source": "/s", "type": "t", **attributes}
    values = [json.dumps(row).encode() for row in rows]
    return Outgoing(values, [None] * len(rows), lambda: shared)


@pytest.fixture
def opened(slack):
    sinks = []

    def open_sink(kind=SINK_SLACK, **config):
        if "webhookURL" not in config:
            config = {"token": "xoxb-s3cret", "channel": "#orders", "api_url": slack.url, **config}
        made = kind.sink("slack", kind.settings.model_validate({"text": "{{ .data.n }}", **config}))
        made.open(SinkOpening({}, compile_template=compile_template))
        sinks.append(made)
        return made

    yield open_sink
    for sink in sinks:
        sink.close()


def posted(slack):
    return [json.loads(seen.body) for seen in slack.seen]


class ChannelUnderTest:
    def __init__(self, slack, proxy):
        self.slack = slack
        self.proxy = proxy
        self.refused = set()
        slack.answer = self.answer
        self.posted = []
        self.settings = SINK_SLACK.settings(
            token="x", channel="#a", api_url=slack.url, text="{{ .id }}"
        )

    def answer(self, seen):
        if seen.path == "/auth.test":
            return as_json({"ok": True})
        number = int(json.loads(seen.body)["text"].removeprefix("event-"))
        if number in self.refused:
            return as_json({"ok": False, "error": "msg_too_long"})
        self.posted.append({"n": number})
        return as_json({"ok": True})

    def make(self, **changes):
        sink = SINK_SLACK.sink("slack", self.settings.model_copy(update=changes))
        opening = sink.open
        sink.open = lambda given: opening(
            SinkOpening(given.state, compile_template=compile_template)
        )
        return sink

    def make_proxied(self, **changes):
        return self.make(api_url=f"http://{self.proxy.address}", **changes)

    def make_impatient(self):
        return self.make_proxied(timeout=1.0)

    def arrived(self):
        return self.posted

    def refuse(self, numbers):
        self.refused = set(numbers)
        return True


class TestSlack(SinkConformance):
    @pytest.fixture
    def subject(self, slack, proxies):
        return ChannelUnderTest(slack, proxies(f"127.0.0.1:{slack.port}"))


def test_a_message_is_posted_to_the_channel_with_the_token(slack, opened):
    sink = opened(channel="{{ .data.team }}", username="shop", icon_emoji=":ship:")
    assert sink.deliver(events({"n": 1, "team": "#a"}, {"n": 2, "team": "#b"})) == {}
    assert posted(slack) == [
        {"text": "1", "channel": "#a", "username": "shop", "icon_emoji": ":ship:"},
        {"text": "2", "channel": "#b", "username": "shop", "icon_emoji": ":ship:"},
    ]
    assert slack.seen[0].path == "/chat.postMessage"
    assert slack.seen[0].headers["authorization"] == "Bearer xoxb-s3cret"


def test_a_webhook_is_posted_to_and_answers_in_plain_text(slack, opened):
    slack.answer = lambda seen: Answer(200, b"ok")
    sink = opened(NOTIFICATION_SLACK, webhookURL=slack.url + "/services/T/B/s3cret")
    assert sink.deliver(events({"n": 1})) == {}
    assert slack.seen[0].path == "/services/T/B/s3cret"
    assert "authorization" not in slack.seen[0].headers


def test_no_event_can_mention_a_channel_or_write_a_link(slack, opened):
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*{{ .data.n }}* <!here>"}}]
    assert opened(blocks=blocks).deliver(events({"n": "<!channel> & <http://evil|me>"})) == {}
    (message,) = posted(slack)
    escaped = "&lt;!channel&gt; &amp; &lt;http://evil|me&gt;"
    assert message["text"] == escaped
    assert message["blocks"][0]["text"]["text"] == f"*{escaped}* <!here>"


def test_what_is_limited_waits_as_long_as_slack_says_and_so_does_what_follows(slack, opened):
    def answer(seen):
        if json.loads(seen.body)["text"] == "2":
            return as_json({"ok": False, "error": "ratelimited"}, 429, **{"Retry-After": "30"})
        return as_json({"ok": True})

    slack.answer = answer
    failures = opened().deliver(events({"n": 1}, {"n": 2}, {"n": 3}))
    assert {k: (type(e), e.retry_after) for k, e in failures.items()} == {
        1: (RetryableError, 30.0),
        2: (RetryableError, 30.0),
    }
    assert len(slack.seen) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (as_json({"ok": False, "error": "invalid_auth"}), FatalError, "slack_refused"),
        (as_json({"ok": False, "error": "channel_not_found"}), FatalError, "slack_channel"),
        (as_json({"ok": False, "error": "msg_too_long"}), PermanentError, "slack_message"),
        (as_json({"ok": False, "error": "internal_error"}), RetryableError, "slack_unavailable"),
        (Answer(400, b"invalid_payload"), PermanentError, "slack_message"),
        (Answer(404, b"no_service"), FatalError, "slack_refused"),
        (Answer(410, b"channel_is_archived"), FatalError, "slack_channel"),
        (Answer(503), RetryableError, "slack_unavailable"),
        (Answer(reset=True), RetryableError, "slack_unavailable"),
    ],
)
def test_an_answer_means_what_slack_says_it_does(slack, opened, answer, kind, code):
    slack.answer = lambda seen: answer
    error = opened().deliver(events({"n": 1}))[0]
    assert (type(error), error.code) == (kind, code)
    assert error.hint
    assert "s3cret" not in str(error)


def test_a_channel_that_an_event_names_wrongly_fails_that_event_alone(slack, opened):
    slack.answer = lambda seen: as_json(
        {"ok": True} if b"#a" in seen.body else {"ok": False, "error": "channel_not_found"}
    )
    sink = opened(channel="{{ .data.team }}")
    failures = sink.deliver(events({"n": 1, "team": "#b"}, {"n": 2, "team": "#a"}, {"n": 3}))
    assert {k: type(e) for k, e in failures.items()} == {0: PermanentError, 2: PermanentError}


def test_a_preflight_asks_who_the_token_is_and_posts_nothing(slack, opened):
    sink = opened()
    (check,) = sink.preflight([])
    assert (check.ok, check.found) == (True, "the token is good")
    assert [seen.path for seen in slack.seen] == ["/auth.test"]
    slack.answer = lambda seen: as_json({"ok": False, "error": "token_revoked"})
    (check,) = sink.preflight([])
    assert (check.ok, check.hint) == (False, "Make a new token.")
    hook = opened(webhookURL="http://127.0.0.1:1/services/s3cret")
    (check,) = hook.preflight([])
    assert (check.ok, check.unreachable) == (False, True)
    assert "s3cret" not in check.found


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"token": "x"}, "channel, which a token needs"),
        ({"token": "x", "channel": "#a", "webhook_url": "https://h/x"}, "either webhook_url or"),
        ({}, "either webhook_url or"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(config, expected):
    with pytest.raises(ValidationError, match=expected):
        SINK_SLACK.settings.model_validate(config)
