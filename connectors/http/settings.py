"""Configuration of `source.http`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from connectors.authorization import Authorization
from connectors.settings import Duration, Jq, Secret, Settings, Size

_PATH = re.compile(
    r"/([\w.~!$&'()*+,;=:@%-]+|\{[a-z_][a-z0-9_]*\})?(/([\w.~!$&'()*+,;=:@%-]+|\{[a-z_][a-z0-9_]*\}))*/?"
)
_NAME = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

_RESERVED = tuple(
    f"/{name}/"
    for name in (
        *("api", "healthz", "readyz", "metrics"),
        *("subjects", "schemas", "compatibility", "config", "mode", "contexts"),
    )
)
"""What the server itself answers at."""


def _check_path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise ValueError("a path that starts with /, such as /hooks/orders or /orders/{id}")
    if f"{value.rstrip('/')}/".startswith(_RESERVED):
        taken = value.split("/")[1]
        raise ValueError(f"a path of its own: /{taken} is one of the server's")
    names = _NAME.findall(value)
    if len(names) != len(set(names)):
        raise ValueError("a path whose parameters have different names")
    return value


class Signature(Settings):
    """How the sender signs its requests; unsigned or wrongly signed ones get 401."""

    scheme: Literal["github", "stripe", "slack", "standard_webhooks", "hmac_sha256"]
    """Whose signature: `hmac_sha256` is the hex HMAC of the body in `header`."""
    secret: Annotated[Secret, MinLen(1)]
    """Secret shared with the sender."""
    header: str | None = None
    """Header that holds the signature; needed by `hmac_sha256`, the other schemes know theirs."""
    tolerance: Annotated[Duration, Ge(1)] = 300.0
    """Greatest age of a request, for schemes that sign a timestamp."""

    @model_validator(mode="after")
    def _header_where_needed(self) -> Self:
        if self.scheme == "hmac_sha256" and not self.header:
            raise ValueError("header, which the scheme hmac_sha256 needs")
        if self.scheme != "hmac_sha256" and self.header:
            raise ValueError(f"no header: the scheme {self.scheme} has its own")
        return self


class HttpAuth(Authorization):
    """Who may send: a bearer token, or a user and password."""


class HttpSourceSettings(Settings):
    """Configuration of `source.http`; the flow file's `server` says where it listens."""

    path: Annotated[str, AfterValidator(_check_path), Field(json_schema_extra={"pattern": "^/"})]
    """Path that requests come to; `{name}` is a path parameter."""
    methods: list[Method] = Field(default=["POST"], min_length=1)
    """Methods that are taken; others get 405."""
    signature: Signature | None = None
    """How requests are signed."""
    auth: HttpAuth | None = None
    """Who may send; default: everybody who can reach the address."""
    format: Literal["auto", "cloudevents", "json", "form", "text", "request"] = "auto"
    """What a body holds; `auto` goes by its content type. `request` makes the data of the whole
    request: method, path parameters, query, headers and body."""
    type: str = "http.request"
    """CloudEvents type of a request that is not a CloudEvent itself."""
    id: Jq | None = None
    """The event's id, over the request; a repeated one is the same event. Default: the scheme's
    delivery id, the CloudEvent's id, else a new one."""
    key: Jq | None = None
    """The event's partition key, over the request."""
    max_body: Annotated[Size, Ge(1)] = 1_000_000
    """Longest body; longer ones get 413."""
    respond: Literal["accepted", "settled"] = "accepted"
    """Answer 202 once the event is stored, or wait until its pipelines have settled it."""
    timeout: Annotated[Duration, Ge(0.1), Le(3600)] = 30.0
    """How long `respond: settled` waits before it answers 202 all the same."""
    max_waiting: Annotated[int, Ge(1)] = 10_000
    """Events that may wait for their pipelines; while there are more, requests get 429."""

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if self.auth is not None and self.signature is not None:
            raise ValueError("either auth or signature: a request that is signed says who sends it")
        return self
