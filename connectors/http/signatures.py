"""Whether a request is signed by who says to have sent it. Pure: the time is given.

    scheme              signed                       where                                   delivery id
    github              body                         X-Hub-Signature-256: sha256=HEX         X-GitHub-Delivery
    stripe              TIME.body                    Stripe-Signature: t=TIME,v1=HEX[,…]     the body's id
    slack               v0:TIME:body                 X-Slack-Signature: v0=HEX               the body's event_id
    standard_webhooks   ID.TIME.body                 webhook-signature: v1,BASE64[ …]        webhook-id
    hmac_sha256         body                         the header named: HEX or sha256=HEX     none

All are HMAC-SHA256. Of several signatures (a secret that is being replaced) one must fit.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from connectors.http.settings import Signature

Headers = Mapping[str, str]
"""By lower-case name."""

Verifier = Callable[[Headers, bytes, float], str]
"""(headers, body, now in seconds since the epoch) → why it is refused, "" where it is not."""


def verifier_of(signature: Signature) -> Verifier:
    """Return what verifies requests."""
    secret = signature.secret.encode()
    if signature.scheme == "standard_webhooks":
        secret = _standard_secret(signature.secret)
    header, tolerance = (signature.header or "").lower(), signature.tolerance

    def verify(headers: Headers, body: bytes, now: float) -> str:
        match signature.scheme:
            case "github":
                shown = [headers.get("x-hub-signature-256", "").removeprefix("sha256=")]
                return _compared(shown, _hex(secret, body))
            case "hmac_sha256":
                return _compared(
                    [headers.get(header, "").removeprefix("sha256=")], _hex(secret, body)
                )
            case "stripe":
                at, shown = _stripe(headers.get("stripe-signature", ""))
                return _too_old(at, now, tolerance) or _compared(
                    shown, _hex(secret, at.encode() + b"." + body)
                )
            case "slack":
                at = headers.get("x-slack-request-timestamp", "")
                shown = [headers.get("x-slack-signature", "").removeprefix("v0=")]
                signed = b"v0:" + at.encode() + b":" + body
                return _too_old(at, now, tolerance) or _compared(shown, _hex(secret, signed))
            case _:
                at = headers.get("webhook-timestamp", "")
                signed = f"{headers.get('webhook-id', '')}.{at}.".encode() + body
                pairs = [
                    each.partition(",") for each in headers.get("webhook-signature", "").split()
                ]
                shown = [value for version, _, value in pairs if version == "v1"]
                wanted = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
                return _too_old(at, now, tolerance) or _compared(shown, wanted)

    return verify


def delivery_id(signature: Signature | None, headers: Headers, data: Any) -> str | None:
    """Return the id that the sender gave its delivery, the same when it tries again."""
    found: Any = None
    match signature.scheme if signature else None:
        case "github":
            found = headers.get("x-github-delivery")
        case "standard_webhooks":
            found = headers.get("webhook-id")
        case "stripe":
            found = data.get("id") if isinstance(data, dict) else None
        case "slack":
            found = data.get("event_id") if isinstance(data, dict) else None
        case _:
            pass
    return found if isinstance(found, str) and found else None


def challenge_of(signature: Signature | None, body: bytes) -> str | None:
    """Return what Slack wants back when an address is entered as a Request URL; None: it is no such request.

    Of api.slack.com, `url_verification`: it is signed like any other, and no event.
    """
    if signature is None or signature.scheme != "slack" or b"url_verification" not in body:
        return None
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(asked, dict) or asked.get("type") != "url_verification":
        return None
    challenge = asked.get("challenge")
    return challenge if isinstance(challenge, str) else None


def _hex(secret: bytes, signed: bytes) -> str:
    return hmac.digest(secret, signed, "sha256").hex()


def _compared(shown: Iterable[str], wanted: str) -> str:
    candidates = [each for each in shown if each]
    if not candidates:
        return "the request is not signed"
    # All of them, in constant time: how long it takes says nothing of the right one.
    fits = [hmac.compare_digest(each.encode(), wanted.encode()) for each in candidates]
    return "" if any(fits) else "the signature does not fit"


def _too_old(at: str, now: float, tolerance: float) -> str:
    if not (at.isascii() and at.isdigit() and len(at) <= 12):
        return "the request is not signed"
    if abs(now - int(at)) > tolerance:
        return f"the signature is {abs(now - int(at)):.0f} s from now"
    return ""


def _stripe(header: str) -> tuple[str, list[str]]:
    at, shown = "", []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            at = value
        elif name == "v1":
            shown.append(value)
    return at, shown


def _standard_secret(text: str) -> bytes:
    """Return the key: base64 behind `whsec_`, else the text itself."""
    if not text.startswith("whsec_"):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return text.encode()
