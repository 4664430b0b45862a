"""Signatures: the vendors' own published examples, and everything that must not pass."""

from __future__ import annotations

import hmac

import pytest

from connectors.http.settings import Signature
from connectors.http.signatures import challenge_of, delivery_id, verifier_of

SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
    b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)

# docs.github.com, "Validating webhook deliveries"; api.slack.com, "Verifying requests from Slack";
# github.com/standard-webhooks/standard-webhooks, the example of its libraries. Stripe publishes how it is
# computed, and no example with a secret.
PUBLISHED = {
    "github": (
        "It's a Secret to Everybody",
        {
            "x-hub-signature-256": "sha256="
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        },
        b"Hello, World!",
        0,
    ),
    "slack": (
        "8f742231b10e8888abcd99yyyzzz85a5",
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0="
            "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        SLACK_BODY,
        1531420618,
    ),
    "standard_webhooks": (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        b'{"test": 2432232314}',
        1614265330,
    ),
    "stripe": (
        "whsec_test",
        {
            "stripe-signature": "t=1700000000,v1="
            + hmac.digest(b"whsec_test", b'1700000000.{"id":"evt_1"}', "sha256").hex()
            + ",v0=ignored"
        },
        b'{"id":"evt_1"}',
        1700000000,
    ),
}


def verifier(scheme, secret, **more):
    return verifier_of(Signature(scheme=scheme, secret=secret, **more))


@pytest.mark.parametrize("scheme", PUBLISHED)
def test_what_the_vendor_signs_passes_and_a_changed_byte_does_not(scheme):
    secret, headers, body, at = PUBLISHED[scheme]
    verify = verifier(scheme, secret)
    assert verify(headers, body, at + 1.0) == ""
    assert verify(headers, body + b" ", at) == "the signature does not fit"
    assert verifier(scheme, secret[:-4] + "AAAA")(headers, body, at) == "the signature does not fit"
    assert verify({}, body, at) == "the request is not signed"


@pytest.mark.parametrize("scheme", ["slack", "standard_webhooks", "stripe"])
def test_an_old_request_or_one_from_the_future_does_not_pass(scheme):
    secret, headers, body, at = PUBLISHED[scheme]
    verify = verifier(scheme, secret, tolerance="5m")
    assert verify(headers, body, at + 299) == ""
    assert verify(headers, body, at + 301) == "the signature is 301 s from now"
    assert verify(headers, body, at - 301) == "the signature is 301 s from now"


def test_the_signed_time_can_not_be_changed():
    secret, headers, body, at = PUBLISHED["stripe"]
    later = {
        "stripe-signature": headers["stripe-signature"].replace("t=1700000000", "t=1700009999")
    }
    assert verifier("stripe", secret)(later, body, at + 9999) == "the signature does not fit"


def test_one_of_several_signatures_is_enough_while_a_secret_is_replaced():
    secret, headers, body, at = PUBLISHED["standard_webhooks"]
    both = {**headers, "webhook-signature": f"v1,AAAA {headers['webhook-signature']} v1a,other"}
    assert verifier("standard_webhooks", secret)(both, body, at) == ""


def test_a_plain_hmac_stands_in_the_header_that_is_named():
    signed = hmac.digest(b"s", b"body", "sha256").hex()
    verify = verifier("hmac_sha256", "s", header="X-Sig")
    assert verify({"x-sig": signed}, b"body", 0) == ""
    assert verify({"x-sig": f"sha256={signed}"}, b"body", 0) == ""
    assert verify({"x-sig": signed.upper()}, b"body", 0) == "the signature does not fit"
    assert verify({"x-sig": "ü"}, b"body", 0) == "the signature does not fit"


def test_the_senders_delivery_id_is_found_where_the_scheme_has_it():
    def found(scheme, headers, data):
        return delivery_id(Signature(scheme=scheme, secret="s"), headers, data)

    assert found("github", {"x-github-delivery": "d-1"}, {}) == "d-1"
    assert found("standard_webhooks", {"webhook-id": "msg_1"}, {}) == "msg_1"
    assert found("stripe", {}, {"id": "evt_1"}) == "evt_1"
    assert found("slack", {}, {"event_id": "Ev1"}) == "Ev1"
    assert found("slack", {}, "text") is None
    assert delivery_id(None, {"x-github-delivery": "d-1"}, {}) is None


# api.slack.com, "url_verification".
CHALLENGE = (
    b'{"token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "type": "url_verification",'
    b' "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
)


def test_slack_gets_its_challenge_back():
    slack = Signature(scheme="slack", secret="s")
    wanted = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    assert challenge_of(slack, CHALLENGE) == wanted


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "event_callback", "event": {"text": "url_verification"}}',
        b'{"type": "url_verification"}',
        b'{"type": "url_verification", "challenge": 5}',
        b'["url_verification"]',
        b"type=url_verification",
        b"",
    ],
)
def test_what_is_no_challenge_is_an_event(body):
    assert challenge_of(Signature(scheme="slack", secret="s"), body) is None


def test_only_slack_has_challenges():
    assert challenge_of(Signature(scheme="github", secret="s"), CHALLENGE) is None
    assert challenge_of(None, CHALLENGE) is None
