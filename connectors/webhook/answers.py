"""What an HTTP answer, or the lack of one, means for the event. Pure: no sockets; the clock is given."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError

_RETRYABLE = {408, 425, 429}
_SHOWN = 300
_LONGEST_WAIT = 86400.0


def origin_of(url: str) -> str:
    """Return scheme, host and port: paths and queries of webhooks often are their secrets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def error_of_answer(
    url: str,
    status: int,
    headers: httpx.Headers,
    body: bytes,
    *,
    secrets: Iterable[str],
    now: datetime,
) -> PenstockError | None:
    """Return None for a 2xx, else the event's error."""
    if 200 <= status < 300:
        return None
    origin = origin_of(url)
    shown = _shown(body, secrets)
    said = f": {shown}" if shown else ""
    if status in _RETRYABLE or status >= 500:
        return RetryableError(
            f"{origin} answered {status}{said}.",
            code="webhook_status",
            hint="It is tried again.",
            retry_after=retry_after(headers.get("retry-after"), now),
            url=origin,
            status=status,
        )
    if 300 <= status < 400:
        return PermanentError(
            f"{origin} answered {status}, a redirect.",
            code="webhook_redirect",
            hint="Write the URL it points to; `follow_redirects` covers 307 and 308 on the same host.",
            url=origin,
            status=status,
        )
    hint = "Correct the event or the receiver, then replay it."
    if status in {401, 403}:
        hint = "Check `auth` and `headers`, then replay it."
    elif status == 404:
        hint = "Check `url`, then replay it."
    return PermanentError(
        f"{origin} answered {status}{said}.",
        code="webhook_status",
        hint=hint,
        url=origin,
        status=status,
    )


def error_of_exception(url: str, error: Exception, timeout: float) -> PenstockError:
    """Return what a request that got no answer means for its event."""
    origin = origin_of(url)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, httpx.TimeoutException)):
        return RetryableError(
            f"{origin} did not answer within {timeout:g}s.",
            code="webhook_timeout",
            hint="It may have taken effect; it is tried again. Raise `timeout` if it needs longer.",
            url=origin,
        )
    if isinstance(error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol, ValueError)):
        return PermanentError(
            f"the request can't be written: {error}.",
            code="webhook_request",
            hint="Check what `url` and the event's attributes hold.",
            url=origin,
        )
    if isinstance(error, httpx.ConnectError) and "CERTIFICATE" in str(error).upper():
        return FatalError(
            f"the certificate of {origin} is not trusted: {error}.",
            code="webhook_tls",
            hint="Name its authority in `ca_file`.",
            url=origin,
        )
    text = str(error) or type(error).__name__
    return RetryableError(
        f"no answer from {origin}: {text}.",
        code="webhook_unreachable",
        hint="It is tried again.",
        url=origin,
    )


def followed(url: str, status: int, location: str | None) -> str | None:
    """Return where a redirect may be followed to: the same host, and not from https to http.

    Elsewhere our credentials and the event's data would go where nobody has sent them.
    """
    if status not in {307, 308} or not location:
        return None
    here = httpx.URL(url)
    target = here.join(location)
    if target.host != here.host or target.scheme not in {here.scheme, "https"}:
        return None
    return str(target)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that Retry-After asks for, RFC 9110 10.2.3: a number or a date."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=timezone.utc)
    return min(max(0.0, (at - now).total_seconds()), _LONGEST_WAIT)


def _shown(body: bytes, secrets: Iterable[str]) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    for secret in secrets:
        text = text.replace(secret, "***")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
