"""Configuration of `step.http_call`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from connectors.addresses import HttpUrl, check_url
from connectors.settings import (
    Duration,
    Expression,
    Path,
    Secret,
    Settings,
    Size,
    Template,
    TemplateValue,
)
from transforms.steps.http_guard import check_allowed, fixed_host
from transforms.steps.http_tls import Tls
from transforms.steps.idempotent import IdempotentSettings

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {"content-length", "transfer-encoding", "host", "connection"}

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def _check_url(value: str) -> str:
    if "{{" not in value:
        return check_url(value, ("http", "https"), "https://example.com/orders/{{ .data.id }}")
    if not value.startswith(("http://", "https://", "{{")):
        raise ValueError("a URL such as https://example.com/orders/{{ .data.id }}")
    return value


def _check_headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"names that HTTP allows for headers; {name!r} is none")
        if name.lower() in _OURS:
            raise ValueError(f"no header {name}: it is made from the request")
        if any(ord(character) < 0x20 and character != "\t" for character in text):
            raise ValueError(f"a value of one line for the header {name}")
    return value


HeaderText = Annotated[str, Expression("template"), "secret"]
"""A header's value: a template, and never shown, since it may hold a token."""


class Auth(Settings):
    """How we say who we are: a bearer token, a user and password, or OAuth 2.0."""

    type: Literal["basic", "bearer", "oauth2_client_credentials"] | None = None
    """Which of them; may be left out, the other keys say it too."""
    bearer: Secret | None = None
    """Token sent as `Authorization: Bearer …`."""
    username: str | None = None
    """User of basic authentication."""
    password: Secret | None = None
    """Password of basic authentication."""
    token_url: HttpUrl | None = None
    """Where OAuth 2.0 client credentials are exchanged for a token."""
    client_id: str | None = None
    """Client of OAuth 2.0."""
    client_secret: Secret | None = None
    """Secret of the OAuth 2.0 client."""
    scopes: list[str] = Field(default=[])
    """Scopes asked for with OAuth 2.0."""
    params: dict[str, Secret] = Field(default={})
    """More fields of the request for a token, such as `audience`."""
    client_auth: Literal["basic", "body"] = "basic"
    """How the client shows its secret: basic authentication, or in the request's body."""

    @property
    def kind(self) -> Literal["basic", "bearer", "oauth2_client_credentials"]:
        """Which of the three it is."""
        if self.bearer is not None:
            return "bearer"
        return "basic" if self.username is not None else "oauth2_client_credentials"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        basic = (self.username, self.password)
        oauth = (self.token_url, self.client_id, self.client_secret)
        if None in basic and any(part is not None for part in basic):
            raise ValueError("username and password together")
        more = {"params", "client_auth"} & self.model_fields_set
        if None in oauth and any(part is not None for part in (*oauth, *self.scopes, *more)):
            raise ValueError("token_url, client_id and client_secret together")
        ways = [self.bearer is not None, basic[0] is not None, oauth[0] is not None]
        if sum(ways) != 1:
            raise ValueError("one of bearer, username and password, or token_url and its client")
        if self.type is not None and self.type != self.kind:
            raise ValueError(f"the keys of {self.type}; those here are of {self.kind}")
        return self


class Connections(Settings):
    """The connections that a step keeps."""

    per_host: Annotated[int, Ge(1), Le(1000)] | None = None
    """Calls under way at the same time to one host; default: as many as `concurrency`."""
    idle: Annotated[int, Ge(0), Le(10_000)] = 64
    """Connections kept open for later calls."""
    keep_alive: Annotated[Duration, Le(3600)] = 30.0
    """How long they are kept. Less than the server keeps them is best."""


class FallbackResponse(Settings):
    """The answer given in place of a call."""

    status: Annotated[int, Ge(100), Le(599)] = 200
    """Its status."""
    body: TemplateValue = None
    """Its body."""


class Fallback(Settings):
    """What events get while the circuit is open."""

    type: Literal["static", "cached", "error"] = "static"
    """`static`: `response`, whatever its status; `cached`: the last answer to the same request, and
    they wait where there is none; `error`: they fail with `circuit_open`, which a `retry` tries again."""
    response: FallbackResponse | None = None
    """The answer of `static`."""
    max_age: Duration | None = None
    """How old an answer of `cached` may be; default: 1 hour."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.type == "static") != (self.response is not None):
            raise ValueError("response for type static, and only for that")
        if self.type != "cached" and self.max_age is not None:
            raise ValueError("max_age for type cached only")
        return self


class CircuitBreaker(Settings):
    """Stops calling a server that keeps failing, for a while."""

    enabled: bool = True
    """Whether it is used."""
    failure_threshold: Annotated[int, Ge(1)] = 5
    """Failures in a row that open the circuit: no answer, none in time, or a status from 500 up."""
    success_threshold: Annotated[int, Ge(1)] = 3
    """Successes in a row that close it again; so many calls are let through to try."""
    timeout: Annotated[Duration, Ge(0.01)] = 30.0
    """How long it stays open before calls are tried again."""
    fallback: Fallback | None = None
    """What events get while it is open; without one, they wait until it closes, and when
    `retry.max_parked` of them wait, the source is not read any further."""
    store: Annotated[str, Field(pattern=r"^(local|rediss?://.+)$"), "secret"] = "local"
    """Where the circuit is kept: `local`, one in each worker, or a `redis://` URL, one for all."""


class HttpCallSettings(IdempotentSettings):
    """Configuration of `step.http_call`."""

    url: Annotated[Template, AfterValidator(_check_url)]
    """Where to call. What a template inserts is not encoded: use `urlEncode` on what may hold
    `/`, `?` or `#`. A value that is missing fails the event."""
    method: Method = "GET"
    """Method of the request."""
    headers: Annotated[dict[str, HeaderText], AfterValidator(_check_headers)] = Field(default={})
    """Headers added to the request; they win over those we make."""
    query: dict[str, TemplateValue] = Field(default={})
    """Parameters added to the URL, encoded; null leaves one out, a list repeats it."""
    body: TemplateValue = None
    """Body of the request: sent as JSON, or as it is when it is a text."""
    body_from: Path | None = None
    """Where in the context the body is, such as `steps.shape.output` or `trigger`."""
    body_format: Literal["auto", "json", "text", "base64"] = "auto"
    """What is sent. `auto`: a text as it is, other values as JSON; `json`: a text as JSON too;
    `text`: any value as text; `base64`: the bytes that the body, a text in base64, stands for."""
    response_format: Literal["auto", "json", "text", "base64"] = "auto"
    """What the output is. `auto`: JSON where the answer's content type says so or is missing, else
    text; `base64`: its bytes, as a text in base64."""
    timeout: Annotated[Duration, Ge(0.01), Le(3600)] = 30.0
    """How long a call may take, from connecting to the end of the answer."""
    connect_timeout: Annotated[Duration, Ge(0.01), Le(3600)] | None = None
    """How long connecting may take of that."""
    read_timeout: Annotated[Duration, Ge(0.01), Le(3600)] | None = None
    """How long the server may be silent while we wait for its answer or the rest of it."""
    concurrency: Annotated[int, Ge(1), Le(1000)] = 16
    """Calls under way at the same time; events of one key are called for one after another. In a step
    module it holds for all steps of a worker that use it together."""
    connections: Connections = Connections()
    """The connections kept."""
    auth: Auth | None = None
    """How we say who we are."""
    tls: Tls | None = None
    """How `https://` connections are secured, where the usual way does not do."""
    proxy: HttpUrl | None = None
    """Proxy that calls go through, such as `http://user:password@proxy:3128`. No environment variable
    sets one."""
    redirects: Literal["same_host", "any", "none"] = "same_host"
    """Which redirects are followed, five at most. `any`: to other hosts too, without `auth` and
    `headers`, and never to an address inside that `allow_private` does not list."""
    allow_private: Annotated[bool | list[str], AfterValidator(check_allowed)] = False
    """Where events may name the host: loopback, private, link-local and such addresses that may be
    called. `true`: all; a list: addresses, networks (`10.1.0.0/16`), hosts (`*.internal`). A host
    that is written in the flow may always be called."""
    error_on_status: bool = True
    """Whether a status outside 2xx fails the event; else it is an answer as any other."""
    max_response: Annotated[Size, Ge(1)] = 10_000_000
    """Longest body of an answer; a longer one fails the event."""
    circuit_breaker: CircuitBreaker | None = None
    """Stops calling a server that keeps failing, for a while."""

    @property
    def may_hold(self) -> bool:
        """Whether events may have to wait until a circuit closes."""
        breaker = self.circuit_breaker
        if breaker is None or not breaker.enabled:
            return False
        return breaker.fallback is None or breaker.fallback.type == "cached"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.body is not None and self.body_from is not None:
            raise ValueError("body or body_from, not both")
        if self.auth and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("auth or the header Authorization, not both")
        if self.proxy is not None and self.allow_private is not True:
            if fixed_host(self.url) is None:
                raise ValueError(
                    "a host without {{ }} in url, or allow_private: true: behind a proxy, which "
                    "resolves names itself, nobody can check what an event's host leads to"
                )
            if self.redirects == "any":
                raise ValueError(
                    "redirects: same_host, or allow_private: true: behind a proxy, which resolves "
                    "names itself, nobody can check where a redirect leads to"
                )
        return self
