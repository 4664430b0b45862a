"""What an HTTP answer, or the lack of one, means for the event. Pure: no sockets; the clock is given."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import httpx
import orjson

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.webhook.answers import retry_after
from transforms.steps.http_bodies import BodyPackedError

_RETRYABLE = {408, 425, 429}
_SHOWN = 200
_TOKEN = re.compile(r"(?=[^/]*\d)(?=[^/]*[A-Za-z])[\w:.~-]{20,}")
_TLS_WORDS = (
    *("CERTIFICATE", "HANDSHAKE_FAILURE", "PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"),
    *("WRONG_VERSION_NUMBER", "UNKNOWN_CA"),
)
"""In OpenSSL's words, what the settings of one side are to blame for, and not the network."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end. `too_long`: its body was not."""

    url: httpx.URL
    status: int
    headers: httpx.Headers
    body: bytes
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """What errors say of the call they are about."""

    method: str
    url: httpx.URL
    secrets: tuple[str, ...] = ()
    """What no error may repeat."""
    host_is_ours: bool = True
    """The flow names the host, and not the event: what is wrong with it stops the worker."""

    @property
    def shown(self) -> str:
        """The URL without user, password and query, and without what looks like a token in it."""
        url = self.url
        host = f"[{url.host}]" if ":" in url.host else url.host
        port = f":{url.port}" if url.port else ""
        path = "/".join(
            "…" if _TOKEN.fullmatch(part) and not _UUID.fullmatch(part) else part
            for part in url.path.split("/")
        )
        return _without(f"{url.scheme}://{host}{port}{path}", self.secrets)


def result_of(
    answer: Answer,
    call: Call,
    *,
    error_on_status: bool,
    now: datetime,
    response_format: Literal["auto", "json", "text", "base64"] = "auto",
) -> Any:
    """Return the step's output. Raises the event's error, if the answer is one."""
    if answer.too_long:
        raise PermanentError(
            f"the answer of {call.method} {call.shown} is too long.",
            code="http_response_too_long",
            hint="Raise `max_response` if such answers are to be expected.",
            **_about(call, answer.status),
        )
    if error_on_status and not 200 <= answer.status < 300:
        raise _error_of_status(answer, call, now)
    if response_format == "base64":
        return base64.b64encode(answer.body).decode()
    if response_format == "text":
        return _as_text(answer)
    return _decoded(answer, call, must_be_json=response_format == "json")


def details_of(answer: Answer) -> dict[str, Any]:
    """Return what `.steps.<name>` has beside `.output`; repeated headers are joined by commas."""
    return {"status": answer.status, "headers": dict(answer.headers)}


def _decoded(answer: Answer, call: Call, *, must_be_json: bool) -> Any:
    """Return the body: a JSON value where the content type says so or says nothing, else text."""
    if not answer.body:
        return None
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    declared = must_be_json or kind == "application/json" or kind.endswith("+json")
    if declared or not kind:
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            if declared:
                raise PermanentError(
                    f"{call.method} {call.shown} answered with {kind or 'JSON'} that is not JSON: "
                    f"{error.msg} at character {error.pos}.",
                    code="http_response",
                    hint="The server's answer is broken; mend it, then replay the event.",
                    **_about(call, answer.status),
                ) from None
    return _as_text(answer)


def _as_text(answer: Answer) -> str:
    charset = re.search(r"charset=\"?([\w-]+)", answer.headers.get("content-type", ""))
    try:
        return answer.body.decode(charset[1] if charset else "utf-8", "replace")
    except LookupError:
        return answer.body.decode("utf-8", "replace")


def _error_of_status(answer: Answer, call: Call, now: datetime) -> PenstockError:
    status = answer.status
    said = _shown(answer.body, call.secrets)
    message = f"{call.method} {call.shown} answered {status}{f': {said}' if said else ''}."
    if status in _RETRYABLE or status >= 500:
        return RetryableError(
            message,
            code="http_status",
            hint="The server may take it later.",
            retry_after=retry_after(answer.headers.get("retry-after"), now),
            **_about(call, status),
        )
    if 300 <= status < 400:
        return PermanentError(
            f"{call.method} {call.shown} answered {status}, a redirect that is not followed.",
            code="http_redirect",
            hint="Write the URL it points to, or allow it with `redirects`. Only those are followed "
            "that keep the method, five at most.",
            **_about(call, status),
        )
    hint = "Correct the event or the request, then replay it."
    if status in {401, 403}:
        hint = "Check `auth` and `headers`, then replay the event."
    elif status == 404:
        hint = "Check `url`, then replay the event."
    return PermanentError(message, code="http_status", hint=hint, **_about(call, status))


def error_of_exception(error: Exception, call: Call, timeout: float) -> PenstockError:
    """Return what a call that got no answer means for its event."""
    if isinstance(error, PenstockError):
        return error
    about = _about(call)
    if isinstance(error, httpx.ConnectTimeout):
        return RetryableError(
            f"{call.method} {call.shown} could not connect in time.",
            code="http_timeout",
            hint="Nothing was sent. Is the host right, and no firewall in the way?",
            effect="none",
            **about,
        )
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, httpx.TimeoutException)):
        silent = isinstance(error, httpx.ReadTimeout)
        return RetryableError(
            f"{call.method} {call.shown} was silent for longer than `read_timeout`."
            if silent
            else f"{call.method} {call.shown} did not answer within {timeout:g}s.",
            code="http_timeout",
            hint=f"It may have taken effect. Raise `{'read_' if silent else ''}timeout` if the "
            "server needs longer.",
            **about,
        )
    if isinstance(error, httpx.TransportError) and any(
        word in str(error).upper() for word in _TLS_WORDS
    ):
        return _tls_error(error, call)
    if isinstance(error, BodyPackedError):
        return PermanentError(
            f"the answer of {call.method} {call.shown} can't be read: {error}.",
            code="http_response",
            hint="The server's answer is broken; mend it, then replay the event.",
            **about,
        )
    if isinstance(error, httpx.ProxyError):
        return _proxy_error(error, call)
    text = _without(str(error), call.secrets) or type(error).__name__
    if isinstance(error, (httpx.TransportError, OSError)) and not isinstance(
        error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
    ):
        if isinstance(error, httpx.ConnectError):
            about["effect"] = "none"
        return RetryableError(
            f"{call.method} {call.shown} got no answer: {text}.",
            code="http_unreachable",
            hint="Is the server running, and the URL right?",
            **about,
        )
    return PermanentError(
        f"{call.method} {call.shown} can't be sent: {text}.",
        code="http_request",
        hint="Check what `url`, `headers` and `body` render to for this event.",
        **about,
    )


def _tls_error(error: Exception, call: Call) -> PenstockError:
    """Return what TLS did not allow: for a host of the flow's it stops the worker."""
    about = _about(call)
    text = f"{call.url.host} and we don't agree on TLS: {error}."
    hint = "Check tls.certificate and tls.min_version, and that the port speaks TLS."
    if "CERTIFICATE_VERIFY_FAILED" in str(error).upper():
        text = f"the certificate of {call.url.host} is not trusted: {error}."
        hint = "Set tls.ca to a PEM file of its authority, or SSL_CERT_FILE for all calls."
    if call.host_is_ours:
        return FatalError(text, code="http_tls", hint=hint, **about)
    return PermanentError(text, code="http_tls", hint=hint, **about)


def _proxy_error(error: Exception, call: Call) -> PenstockError:
    text = _without(str(error), call.secrets).rstrip(".")
    if text.startswith("407"):
        return FatalError(
            f"the proxy wants to know who we are: {text}.",
            code="http_proxy",
            hint="Write `proxy` as http://user:password@host:port.",
            **_about(call),
        )
    return RetryableError(
        f"the proxy did not let {call.method} {call.shown} through: {text}.",
        code="http_proxy",
        hint="Is the server behind it running, and the proxy allowed to go there?",
        effect="none",
        **_about(call),
    )


def followed(
    answer: Answer, method: str, policy: Literal["same_host", "any", "none"] = "same_host"
) -> httpx.URL | None:
    """Return where the answer redirects to, if it may be followed there.

    Unless the policy is `any`, that is to the same host and port, or from http to https on it:
    elsewhere the event's data would go where nobody has sent it. And with the same method: a
    redirect that turns POST into GET would drop the body.
    """
    if policy == "none":
        return None
    if answer.status not in {301, 302, 303, 307, 308}:
        return None
    if answer.status not in {307, 308} and method not in {"GET", "HEAD"}:
        return None
    location = answer.headers.get("location")
    if not location:
        return None
    try:
        target = answer.url.join(location)
    except (httpx.InvalidURL, ValueError):
        return None
    here = answer.url
    same = (target.scheme, target.host, target.port) == (here.scheme, here.host, here.port)
    upgraded = (
        (here.scheme, target.scheme) == ("http", "https")
        and target.host == here.host
        and here.port is None
        and target.port is None
    )
    if same or upgraded:
        return target.copy_with(userinfo=here.userinfo)
    away = target.scheme == "https" or (target.scheme, here.scheme) == ("http", "http")
    return target if policy == "any" and away and target.host else None


def _about(call: Call, status: int | None = None) -> dict[str, Any]:
    """Return an error's context. `effect: none` is added where nothing was sent."""
    about: dict[str, Any] = {"url": call.shown, "method": call.method}
    return about if status is None else {**about, "status": status}


def _shown(body: bytes, secrets: Iterable[str]) -> str:
    text = _without(" ".join(body[: 4 * _SHOWN].decode("utf-8", "replace").split()), secrets)
    return text.rstrip(".") if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
