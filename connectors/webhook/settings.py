"""Configuration of `sink.webhook` and `webhook.sender`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, AliasChoices, Field

from connectors.addresses import HttpUrl, check_url
from connectors.authorization import Authorization
from connectors.settings import Duration, Secret, Settings, Template

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _check_url(value: str) -> str:
    if "{{" not in value:
        check_url(value, ("http", "https"), "https://example.com/hooks/{{ .type }}")
    return value


def _check_headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"names that HTTP allows for headers; {name!r} is none")
        if any(ord(character) < 0x20 and character != "\t" for character in text):
            raise ValueError(f"a value of one line for the header {name}")
        if not text.isascii():
            raise ValueError(f"a value in ASCII for the header {name}")
    return value


class Auth(Authorization):
    """How we say who we are: a bearer token, or a user and password."""


class _Request(Settings):
    """What both types share."""

    method: Literal["POST", "PUT", "PATCH"] = "POST"
    """Method of the requests."""
    format: Literal["cloudevents_binary", "cloudevents_structured", "json"] = "cloudevents_binary"
    """What is sent: the data with the event's attributes as headers, the CloudEvent as one
    document, or the data alone."""
    headers: Annotated[dict[str, Secret], AfterValidator(_check_headers)] = Field(
        default_factory=dict
    )
    """Headers added to each request; they win over those we make."""
    auth: Auth | None = None
    """How we say who we are."""
    timeout: Annotated[Duration, Ge(0.01), Le(600)] = 10.0
    """How long a request may take, from connecting to the end of the answer."""
    concurrency: Annotated[int, Ge(1), Le(1000)] = 16
    """Requests under way at the same time; events of one key never are."""
    follow_redirects: bool = False
    """Go where a 307 or 308 points, on the same host; any other redirect is a permanent error."""
    proxy: HttpUrl | None = None
    """Proxy to send requests through; the environment's proxy variables are not read."""
    ca_file: str | None = None
    """PEM file of the authority that signed the server's certificate; default: the system's."""
    verify: bool = True
    """Whether the server's certificate is checked."""


class WebhookSettings(_Request):
    """Configuration of `sink.webhook`."""

    url: Annotated[Template, AfterValidator(_check_url)]
    """Where events are sent, rendered over the outgoing event. What it inserts is not encoded:
    use `urlEncode` on what may hold `/`, `?` or `#`."""
    max_retries: Annotated[int, Ge(0), Le(10)] = 0
    """Further tries within one delivery, 0.1s apart and doubling up to 5s, before the step's
    own `retry` takes over."""


class WebhookSenderSettings(_Request):
    """Configuration of `webhook.sender`."""

    url: Annotated[Template, AfterValidator(_check_url)] | None = None
    """Where events are sent; default: the URL that a publish step gives as `topic`."""
    max_retries: Annotated[int, Ge(0), Le(10)] = Field(
        default=3, validation_alias=AliasChoices("maxRetries", "max_retries")
    )
    """Further tries within one delivery, 0.1s apart and doubling up to 5s, before the step's
    own `retry` takes over. `maxRetries` is read too."""
