"""Makes the requests of a batch: URL, headers and body of each event, from the settings. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from connectors.batch import Column
from connectors.errors import FlowFileError, PenstockError, PermanentError
from transforms.executions import UNSET, Executions
from transforms.expressions import compile_template, compile_value, parse_path
from transforms.expressions.values import to_json, to_text
from transforms.steps.http_bodies import ENCODINGS
from transforms.steps.http_settings import Auth, HttpCallSettings
from transforms.steps.idempotent import StepKey

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"

_KEY = b"idempotency-key"
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

Encoder = Callable[[Any], tuple[bytes, str]]
"""Makes (bytes, content type) of a value. Raises TypeError or ValueError for one that it can't."""

Part = tuple[Column, Mapping[int, PenstockError]]
"""A value per index, and the errors of those that have none."""


@dataclass(frozen=True, slots=True)
class Request:
    """One event's request."""

    index: int
    method: str
    url: httpx.URL
    headers: list[tuple[bytes, bytes]]
    body: bytes | None


class RequestMaker:
    """Compiles the templates of the settings once."""

    def __init__(self, settings: HttpCallSettings, key: StepKey | None = None) -> None:
        """Compile them. Raises ExpressionError. `key` is sent as `Idempotency-Key`."""
        self._key = key
        self._method = settings.method
        self._url = compile_template(settings.url)
        self._fixed_url = None if self._url.constant is None else httpx.URL(self._url.constant)
        self._headers = [
            (name.lower().encode(), compile_template(text))
            for name, text in settings.headers.items()
        ]
        own = {name for name, _ in self._headers}
        self._fixed_headers = [pair for pair in _made_headers(settings.auth) if pair[0] not in own]
        if _KEY in own:
            self._key = None
        self._says_type = b"content-type" in own
        self._query = compile_value(settings.query) if settings.query else None
        self._body = _body_maker(settings)

    def requests(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[list[Request], dict[int, PenstockError]]:
        """Return the requests of those events that have one, and the errors of the others."""
        errors: dict[int, PenstockError] = {}
        urls = self._urls(executions, indexes, errors)
        headers: list[tuple[bytes, Column]] = []
        for name, template in self._headers:
            texts, wrong = template.column(executions, indexes, required=True)
            errors.update(wrong)
            headers.append((name, texts))
        if self._key is not None:
            texts, unmade = self._key.column(executions, indexes)
            errors.update(unmade)
            headers.append((_KEY, [_header_of(text) for text in texts]))
        bodies: Column | None = None
        if self._body is not None:
            bodies, without = self._body(executions, indexes)
            errors.update(without)
        made = []
        for place, index in enumerate(indexes):
            if index in errors:
                continue
            own = [(name, texts[place]) for name, texts in headers]
            body = None if bodies is None else bodies[place]
            try:
                made.append(self._request(index, urls[place], own, body))
            except (PenstockError, UnicodeEncodeError) as error:
                errors[index] = _as_ours(error)
        return made, errors

    def _urls(
        self, executions: Executions, indexes: Sequence[int], errors: dict[int, PenstockError]
    ) -> Column:
        if self._fixed_url is not None:
            urls: Column = [self._fixed_url] * len(indexes)
        else:
            urls, wrong = self._url.column(executions, indexes, required=True)
            errors.update(wrong)
            for place, index in enumerate(indexes):
                if index not in errors:
                    try:
                        urls[place] = _url(urls[place])
                    except PermanentError as error:
                        errors[index] = error
        if self._query is not None:
            queries, wrong = self._query.column(executions, indexes)
            errors.update(wrong)
            for place, index in enumerate(indexes):
                if index not in errors:
                    urls[place] = urls[place].copy_merge_params(_parameters(queries[place]))
        return urls

    def _request(
        self, index: int, url: httpx.URL, own: list[tuple[bytes, str]], body: Any
    ) -> Request:
        headers = self._fixed_headers + [(name, text.strip().encode("ascii")) for name, text in own]
        if any(b"\n" in value or b"\r" in value or b"\x00" in value for _, value in headers):
            raise _bad_request("a header has a line break in it", "headers")
        if body is None:
            return Request(index, self._method, url, headers, None)
        content, kind = body
        if not self._says_type:
            headers.append((b"content-type", kind.encode()))
        return Request(index, self._method, url, headers, content)


def _header_of(key: str | None) -> str:
    """Return a key as a header has it: what is not printable ASCII percent-encoded."""
    text = key or ""
    if text.isascii() and text.isprintable():
        return text
    return quote(text, safe=_PRINTABLE, errors="surrogatepass")


def _made_headers(auth: Auth | None) -> list[tuple[bytes, bytes]]:
    made = [(b"user-agent", b"penstock"), (b"accept", b"application/json, */*;q=0.5")]
    made += [(b"accept-encoding", ENCODINGS), (b"connection", b"keep-alive")]
    if auth is None or auth.kind == "oauth2_client_credentials":
        return made  # the client adds the token that it has by then
    if auth.kind == "bearer":
        return [*made, (b"authorization", f"Bearer {auth.bearer}".encode())]
    pair = f"{auth.username}:{auth.password}".encode()
    return [*made, (b"authorization", b"Basic " + base64.b64encode(pair))]


def _url(text: str) -> httpx.URL:
    """Return the URL. Raises PermanentError."""
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise _bad_request(f"its URL is none ({error})", "url") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise _bad_request("its URL is none: http:// or https:// and a host are missing", "url")
    return url


def _parameters(query: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return a query's parameters: null leaves one out, a list repeats it."""
    return {
        name: [to_text(item) for item in (value if isinstance(value, list) else [value])]
        for name, value in query.items()
        if value is not None
    }


def _body_maker(
    settings: HttpCallSettings,
) -> Callable[[Executions, Sequence[int]], Part] | None:
    """Return a function that makes (bytes, content type) per index, or None: no body is sent."""
    encoded = _ENCODERS[settings.body_format]
    if settings.body_from is not None:
        return _body_from(settings.body_from, encoded, as_it_is=settings.body_format == "auto")
    if settings.body is None:
        return None
    template = compile_value(settings.body)
    if template.constant:
        try:
            fixed = encoded(settings.body)
        except (TypeError, ValueError) as error:
            raise FlowFileError(
                f"the body can't be sent: {error}.", code="http_request", hint="Check `body`."
            ) from None
        return lambda _executions, indexes: ([fixed] * len(indexes), {})

    def rendered(executions: Executions, indexes: Sequence[int]) -> Part:
        values, errors = template.column(executions, indexes)
        return _all_encoded(values, indexes, errors, encoded)

    return rendered


def _body_from(
    text: str, encoded: Encoder, *, as_it_is: bool
) -> Callable[[Executions, Sequence[int]], Part]:
    path = parse_path(text)
    parts = tuple(path.parts)
    if as_it_is and parts in {("data",), ("trigger", "data")}:
        # As it came: it is JSON text already.
        def as_it_came(executions: Executions, indexes: Sequence[int]) -> Part:
            raws = executions.events.column("raw")
            return [None if raws[k] is None else (raws[k], _JSON) for k in indexes], {}

        return as_it_came

    step = parts[1] if parts[:1] == ("steps",) and len(parts) > 1 else None

    def read(executions: Executions, indexes: Sequence[int]) -> Part:
        values, found = path.column(executions, indexes)
        errors = dict(found)
        if step is not None:
            column = executions.outputs.get(str(step))
            for index in indexes:
                if column is None or column[index] is UNSET:
                    errors[index] = _not_run(text, str(step))
        return _all_encoded(values, indexes, errors, encoded)

    return read


def _all_encoded(
    values: Column,
    indexes: Sequence[int],
    found: Mapping[int, PenstockError],
    encoded: Encoder,
) -> Part:
    errors = dict(found)
    bodies: Column = []
    for index, value in zip(indexes, values, strict=True):
        body = None
        if index not in errors:
            try:
                body = encoded(value)
            except (TypeError, ValueError, RecursionError) as error:
                errors[index] = _bad_request(f"its body can't be sent ({error})", "body")
        bodies.append(body)
    return bodies, errors


def _as_it_is(value: Any) -> tuple[bytes, str]:
    return (value.encode(), _TEXT) if isinstance(value, str) else _json(value)


def _text(value: Any) -> tuple[bytes, str]:
    return to_text(value).encode(), _TEXT


def _bytes(value: Any) -> tuple[bytes, str]:
    if not isinstance(value, str):
        raise TypeError("a text in base64 is expected")
    return base64.b64decode(value, validate=True), _BYTES


def _json(value: Any) -> tuple[bytes, str]:
    try:
        return orjson.dumps(value), _JSON
    except TypeError:
        return to_json(value).encode(), _JSON


_ENCODERS: dict[str, Encoder] = {
    "auto": _as_it_is,
    "json": _json,
    "text": _text,
    "base64": _bytes,
}


def _not_run(path: str, step: str) -> PermanentError:
    return PermanentError(
        f"there is no {path}: step {step} did not run for this event.",
        code="missing_value",
        hint="Give this step an `if` that holds for the same events.",
        path=path,
    )


def _bad_request(what: str, setting: str) -> PermanentError:
    return PermanentError(
        f"the request can't be made: {what}.",
        code="http_request",
        hint=f"Check what `{setting}` renders to for this event.",
    )


def _as_ours(error: PenstockError | UnicodeEncodeError) -> PenstockError:
    if isinstance(error, PenstockError):
        return error
    return _bad_request("a header has a character that is not ASCII", "headers")
