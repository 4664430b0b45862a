"""sink.email against a real SMTP server (aiosmtpd): what a mail holds, and who is told what when it is refused."""

from __future__ import annotations

import json
import smtplib
import ssl
from contextlib import ExitStack

import pytest
from aiosmtpd.controller import Controller
from pydantic import ValidationError

from connectors.contracts import Outgoing, SinkOpening
from connectors.email import SINK_EMAIL
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.testing import SinkConformance
from tests.connectors.email.postbox import Postbox, listening, secured_by
from tests.connectors.templates import compile_template
from tests.transforms.steps.certificates import Authority


@pytest.fixture
def serve():
    with ExitStack() as running:
        yield lambda postbox, **options: running.enter_context(listening(postbox, **options))


MAIL = {
    "from": "Shop <shop@example.com>",
    "to": ["{{ .data.to }}"],
    "subject": "Order {{ .data.n }}",
    "text": "{{ .data.n }}",
}


def events(*rows, **attributes):
    shared = {"id": [str(n) for n in range(len(rows))], "source": "/s", "type": "t", **attributes}
    values = [json.dumps({"to": "a@example.com", **row}).encode() for row in rows]
    return Outgoing(values, [None] * len(rows), lambda: shared)


@pytest.fixture
def opened(serve):
    sinks = []

    def open_sink(postbox, controller=None, **config):
        server = controller or serve(postbox)
        given = {"host": "127.0.0.1", "port": server.port, "security": "none", **MAIL, **config}
        made = SINK_EMAIL.sink("mail", SINK_EMAIL.settings.model_validate(given))
        made.open(SinkOpening({}, compile_template=compile_template))
        sinks.append(made)
        return made

    yield open_sink
    for sink in sinks:
        sink.close()


class PostboxUnderTest:
    def __init__(self, postbox, controller, proxy):
        self.postbox = postbox
        self.proxy = proxy
        given = {**MAIL, "to": ["a@example.com"], "subject": "s", "text": "{{ .id }}"}
        self.settings = SINK_EMAIL.settings.model_validate(
            {"host": "127.0.0.1", "port": controller.port, "security": "none", **given}
        )

    def make(self, **changes):
        sink = SINK_EMAIL.sink("mail", self.settings.model_copy(update=changes))
        opening = sink.open
        sink.open = lambda given: opening(
            SinkOpening(given.state, compile_template=compile_template)
        )
        return sink

    def make_proxied(self, **changes):
        return self.make(port=self.proxy.port, **changes)

    def make_impatient(self):
        return self.make_proxied(timeout=1.0)

    def arrived(self):
        return [{"n": _number(mail)} for mail in self.postbox.mails]

    def refuse(self, numbers):
        refused = set(numbers)
        self.postbox.refuse = lambda mail: "554 no" if _number(mail) in refused else None
        return True


def _number(mail):
    return int(mail.get_content().strip().removeprefix("event-"))


class TestEmail(SinkConformance):
    @pytest.fixture
    def subject(self, serve, proxies):
        postbox = Postbox()
        server = serve(postbox)
        return PostboxUnderTest(postbox, server, proxies(f"127.0.0.1:{server.port}"))


def test_a_mail_is_what_the_templates_say(opened):
    postbox = Postbox()
    sink = opened(
        postbox,
        cc=["Büro <b@example.com>, c@example.com"],
        bcc=["hidden@example.com"],
        reply_to="help@example.com",
        html="<b>{{ .data.name }}</b>",
    )
    assert sink.deliver(events({"n": 7, "name": "Tom & <Jerry>"})) == {}
    (mail,) = postbox.mails
    assert mail.envelope == (
        "shop@example.com",
        ["a@example.com", "b@example.com", "c@example.com", "hidden@example.com"],
    )
    assert (mail["From"], mail["Subject"]) == ("Shop <shop@example.com>", "Order 7")
    assert mail["Cc"] == "Büro <b@example.com>, c@example.com"
    assert (mail["Reply-To"], mail["Bcc"]) == ("help@example.com", None)
    assert mail.get_body(("plain",)).get_content().strip() == "7"
    assert mail.get_body(("html",)).get_content().strip() == "<b>Tom &amp; &lt;Jerry&gt;</b>"


def test_a_redelivery_has_the_same_message_id_and_another_event_has_not(opened):
    postbox = Postbox()
    sink = opened(postbox)
    for _ in range(2):
        assert sink.deliver(events({"n": 1}, {"n": 2})) == {}
    ids = [mail["Message-ID"] for mail in postbox.mails]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    assert ids[0].endswith("@example.com>")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"n": "1\r\nBcc: evil@example.com"}, "email_header"),
        ({"n": 1, "to": "a@example.com\nBcc: evil@example.com"}, "email_address"),
        ({"n": 1, "to": "nobody"}, "email_address"),
        ({"n": 1, "to": ""}, "email_address"),
        ({}, "template"),
    ],
)
def test_what_would_forge_a_header_or_is_no_address_fails_alone(opened, row, code):
    postbox = Postbox()
    failures = opened(postbox).deliver(events({"n": 1}, row, {"n": 3}))
    assert (list(failures), failures[1].code) == ([1], code)
    assert [mail["Subject"] for mail in postbox.mails] == ["Order 1", "Order 3"]
    assert all(mail["Bcc"] is None for mail in postbox.mails)


def test_a_refusal_is_permanent_or_for_now_as_its_first_digit_says(opened):
    postbox = Postbox()
    answers = {"2": "451 busy", "3": "552 too large"}
    postbox.refuse = lambda mail: answers.get(mail["Subject"].removeprefix("Order "))
    failures = opened(postbox).deliver(events({"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}))
    assert {k: (type(e), e.code) for k, e in failures.items()} == {
        1: (RetryableError, "email_unavailable"),
        2: (PermanentError, "email_message"),
    }
    assert [mail["Subject"] for mail in postbox.mails] == ["Order 1", "Order 4"]


def test_of_several_recipients_those_that_have_it_do_not_get_it_again(opened):
    postbox = Postbox()
    busy = ["b@example.com"]
    postbox.recipient = lambda address: "450 later" if address in busy else None
    sink = opened(postbox, to=["a@example.com", "b@example.com"])
    error = sink.deliver(events({"n": 1}))[0]
    assert isinstance(error, RetryableError)
    busy.clear()
    assert sink.deliver(events({"n": 1})) == {}
    assert [mail.envelope[1] for mail in postbox.mails] == [["a@example.com"], ["b@example.com"]]
    postbox.recipient = lambda address: "550 unknown"
    assert sink.deliver(events({"n": 2}, id=["9"]))[0].code == "email_recipient"


def test_a_server_that_is_away_is_said_to_be_and_gets_the_mails_when_it_is_back(opened, serve):
    postbox = Postbox()
    server = serve(postbox)
    sink = opened(postbox, server)
    assert sink.deliver(events({"n": 1})) == {}
    port = server.port
    server.stop()
    failures = sink.deliver(events({"n": 2}, {"n": 3}))
    assert [type(failures[k]) for k in range(2)] == [RetryableError, RetryableError]
    away = SINK_EMAIL.sink("mail", sink._settings)
    with pytest.raises(FatalError) as caught:
        away.open(SinkOpening({}, compile_template=compile_template))
    assert caught.value.unreachable
    (check,) = away.preflight([])
    assert (check.ok, check.unreachable) == (False, True)
    again = Controller(postbox, hostname="127.0.0.1", port=port)
    again.start()
    try:
        assert sink.deliver(events({"n": 2}, {"n": 3})) == {}
    finally:
        sink.close()
        again.stop()
    assert [mail["Subject"] for mail in postbox.mails] == ["Order 1", "Order 2", "Order 3"]


@pytest.fixture
def secured(tmp_path, serve):
    """A server that wants STARTTLS and a login."""
    authority = Authority(tmp_path)
    postbox = Postbox()
    server = serve(postbox, **secured_by(authority, "u", "p"))
    return postbox, server, {"security": "starttls", "ca_file": str(authority.ca)}


def test_a_login_goes_over_tls_and_a_wrong_one_stops_the_worker(secured, opened):
    postbox, server, config = secured
    sink = opened(postbox, server, username="u", password="p", **config)
    assert sink.deliver(events({"n": 1})) == {}
    (check,) = sink.preflight([])
    assert check.found == "127.0.0.1 answers, TLS, logged in"
    with pytest.raises(FatalError) as caught:
        opened(postbox, server, username="u", password="hunter2", **config)
    assert caught.value.code == "email_refused"
    assert "hunter2" not in str(caught.value)
    assert not caught.value.unreachable


def test_a_certificate_of_an_unknown_authority_is_refused(secured, opened):
    postbox, server, config = secured
    with pytest.raises(FatalError) as caught:
        opened(postbox, server, **config | {"ca_file": None})
    assert "ca_file" in caught.value.hint
    assert ssl.SSLCertVerificationError.__name__ in repr(caught.value.__cause__)


def test_a_server_without_starttls_is_not_sent_anything_in_the_clear(serve, opened):
    postbox = Postbox()
    with pytest.raises(FatalError) as caught:
        opened(postbox, security="starttls")
    assert isinstance(caught.value.__cause__, smtplib.SMTPNotSupportedError)
    assert postbox.mails == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"host": None}, "host, the SMTP server"),
        ({"text": None}, "a body"),
        ({"username": "u"}, "username and password together"),
        ({"username": "u", "password": "p", "security": "none"}, "in the clear"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(changes, expected):
    with pytest.raises(ValidationError, match=expected):
        SINK_EMAIL.settings.model_validate({"host": "mail", **MAIL, **changes})


def test_mail_by_ses_is_refused_until_it_is_built():
    given = {name: value for name, value in MAIL.items() if name != "host"}
    settings = SINK_EMAIL.settings.model_validate({"provider": "ses", **given})
    assert settings.not_built() == ["provider: ses"]
