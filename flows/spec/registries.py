"""Where a flow's schemas are kept, when that is not its state store."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from connectors.addresses import HttpUrl
from connectors.settings import Settings


def _without_user(value: str) -> str:
    if "@" in urlsplit(value).netloc:
        raise ValueError("a URL without user and password: write those as auth")
    return value


class ExternalRegistry(Settings):
    """A Confluent Schema Registry that keeps the flow's schemas, instead of the state store."""

    url: Annotated[HttpUrl, AfterValidator(_without_user)]
    """Its address, such as `https://registry.example.com`."""
    auth: Annotated[str, Field(min_length=1), "secret"] | None = None
    """`user:password`, or a token; default: none is shown."""
