"""From a request to the events that it carries, or to the status it is refused with. Pure.

A request that is a CloudEvent (HTTP binding 1.0: binary, structured or batched) keeps its attributes.
Any other one is given them: the module's `type`, `/http/<module>` as its source, the time it came, and an
id: of `id:`, of the sender's delivery, or a new one.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl

import orjson

from connectors.cloudevents import (
    HTTP_PREFIX,
    content_mode,
    data_of_body,
    decode_binary,
    decode_structured,
)
from connectors.errors import PenstockError, PermanentError
from connectors.http.settings import HttpSourceSettings
from connectors.http.signatures import delivery_id

FORM = "application/x-www-form-urlencoded"

Expression = Callable[[Mapping[str, Any]], Any]
"""A compiled jq program. Raises PermanentError."""


class RefusedError(PermanentError):
    """A request that is answered with `status`, and of which nothing is kept."""

    def __init__(self, status: int, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came. Headers are by lower-case name, the last of several with one name."""

    method: str
    path: str
    path_params: Mapping[str, str]
    query: str
    """As it stands behind the `?`."""
    headers: Mapping[str, str]
    body: bytes
    at: float
    """When it came, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One event of a request, to be kept."""

    id: str
    head: bytes
    """What `connectors.http.reader` reads: attributes, key and time."""
    raw: bytes | None
    key: str | None
    digest: bytes | None
    """Of what makes a delivery the same delivery; None where the sender gave it no id."""


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads the requests of one source."""

    name: str
    """The module's."""
    settings: HttpSourceSettings
    id: Expression | None = None
    key: Expression | None = None
    _encode: Callable[[Any], bytes] = field(default=orjson.dumps, init=False)

    def read(self, request: HttpRequest) -> list[Arrived]:
        """Return the request's events, at least one unless it is an empty batch. Raises RefusedError."""
        try:
            mode = content_mode(request.headers.items(), HTTP_PREFIX)
            wanted = self.settings.format
            if mode is not None and wanted in {"auto", "cloudevents"}:
                return self._cloudevents(mode, request)
            if wanted == "cloudevents":
                raise RefusedError(
                    415,
                    "the request is no CloudEvent.",
                    code="cloudevents_missing",
                    hint="Send ce-specversion and the other ce- headers, or application/cloudevents+json.",
                )
            return [self._plain(request)]
        except RefusedError:
            raise
        except PenstockError as error:
            status = 415 if error.code == "cloudevents_format" else 400
            raise RefusedError(
                status, error.message, code=error.code, hint="Nothing was kept."
            ) from error

    def _cloudevents(self, mode: str, request: HttpRequest) -> list[Arrived]:
        if mode == "batched":
            documents = _json(request.body)
            if not isinstance(documents, list):
                raise RefusedError(
                    400, "the batch is not a JSON array.", code="cloudevents_not_json"
                )
            bodies = [orjson.dumps(each) for each in documents]
        elif mode == "structured":
            bodies = [request.body]
        else:
            attributes = decode_binary(request.headers.items(), HTTP_PREFIX)
            raw = None
            if request.body:
                raw = data_of_body(request.body, attributes.get("datacontenttype"))
                data = _json(raw)
            else:
                data = None
            return [self._event(request, attributes, raw, data)]
        found = [decode_structured(body) for body in bodies]
        return [self._event(request, each.attributes, each.raw, each.data) for each in found]

    def _event(
        self, request: HttpRequest, attributes: dict[str, Any], raw: bytes | None, data: Any
    ) -> Arrived:
        attributes.pop("specversion", None)
        key = attributes.get("partitionkey")
        shown = self.shown(request, data) if self.id is not None or self.key is not None else None
        given = None if self.id is None else self._text(self.id, shown, "id")
        if given is not None:
            attributes["id"] = given
        if self.key is not None:
            key = self._text(self.key, shown, "key")
        attributes.setdefault("time", _rfc3339(request.at))
        identity = given or f"{attributes['source']}\x00{attributes['id']}"
        return self._arrived(attributes, raw, key, request.at, identity)

    def _plain(self, request: HttpRequest) -> Arrived:
        settings = self.settings
        parsed: Any
        if settings.format == "request" or (settings.format == "auto" and not request.body):
            parsed = self.shown(request, _body(request, "auto"))
            raw = orjson.dumps(parsed)
        elif settings.format in {"auto", "json"} and _is_json(request):
            raw = request.body
            parsed = _json(raw)
        else:
            parsed = _body(request, settings.format)
            raw = orjson.dumps(parsed)
        whole = parsed if settings.format == "request" else None
        given = key = None
        if self.id is not None or self.key is not None:
            shown = whole or self.shown(request, parsed)
            given = None if self.id is None else self._text(self.id, shown, "id")
            key = None if self.key is None else self._text(self.key, shown, "key")
        signed = whole["body"] if whole else parsed
        given = given or delivery_id(settings.signature, request.headers, signed)
        attributes = {
            "id": given or str(uuid.uuid4()),
            "source": f"/http/{self.name}",
            "type": settings.type,
            "time": _rfc3339(request.at),
            "datacontenttype": "application/json",
        }
        return self._arrived(attributes, raw, key, request.at, given)

    def shown(self, request: HttpRequest, body: Any) -> dict[str, Any]:
        """Return the whole request as a value: what `id`, `key` and `format: request` read."""
        return {
            "method": request.method,
            "path": request.path,
            "path_params": dict(request.path_params),
            "query": _pairs(request.query),
            "headers": {
                name: value for name, value in request.headers.items() if name not in _SECRET
            },
            "body": body,
        }

    def _text(self, expression: Expression, shown: Any, what: str) -> str | None:
        value = expression(shown)
        if value is None and what == "key":
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            raise RefusedError(
                400,
                f"the request has no {what}.",
                code="request_value_missing",
                hint=f"The source's `{what}:` made no text and no whole number of it.",
            )
        return str(value)

    def _arrived(
        self,
        attributes: dict[str, Any],
        raw: bytes | None,
        key: Any,
        at: float,
        identity: str | None,
    ) -> Arrived:
        key = None if key is None else str(key)
        head = orjson.dumps([attributes, key, at])
        digest = None
        if identity is not None:
            digest = blake2b(identity.encode(errors="surrogatepass"), digest_size=16).digest()
        return Arrived(attributes["id"], head, raw, key, digest)


_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that say who somebody is: they are for the server, and stay out of events."""


def _body(request: HttpRequest, wanted: str) -> Any:
    """Return the body as a value, read as `wanted` or, for auto, as its content type says."""
    body, declared = request.body, request.headers.get("content-type", "")
    media_type = declared.partition(";")[0].strip().lower()
    if not body and wanted == "auto":
        return None
    if wanted == "json" or (wanted == "auto" and _is_json(request)):
        return _json(body)
    if wanted == "form" or (wanted == "auto" and media_type == FORM):
        try:
            return _pairs(body.decode("utf-8"))
        except UnicodeDecodeError:
            raise RefusedError(400, "the form is not UTF-8.", code="form_invalid") from None
    if wanted == "text":
        media_type = media_type if media_type.startswith("text/") else "text/plain"
        declared = declared if declared.lower().startswith("text/") else media_type
    return orjson.loads(data_of_body(body, declared or "application/octet-stream"))


def _is_json(request: HttpRequest) -> bool:
    declared = request.headers.get("content-type")
    if declared is None:
        return True
    subtype = declared.partition(";")[0].strip().lower().partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(
            400,
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            code="json_invalid",
            hint="Nothing was kept.",
        ) from None


def _pairs(text: str) -> dict[str, Any]:
    """Return a form's or a query's names and values; a name that comes several times has a list."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=10_000):
        known = found.get(name)
        if known is None:
            found[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            found[name] = [known, value]
    return found


def _rfc3339(at: float) -> str:
    text = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def basic_credentials(header: str) -> tuple[bytes, bytes] | None:
    """Return user and password of an `Authorization: Basic …`; None where it is none."""
    scheme, _, shown = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(shown.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return (user, password) if colon else None


def ids_of(events: Sequence[Arrived]) -> dict[str, Any]:
    """Return what an answer says of the events it has taken: `id`, or `ids` of several."""
    return {"id": events[0].id} if len(events) == 1 else {"ids": [each.id for each in events]}
