"""The kinds of addresses that connectors' settings take, checked when a flow file is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, WithJsonSchema


def check_url(value: str, schemes: tuple[str, ...], example: str) -> str:
    """Return the URL when it has one of the schemes and a host. Raises ValueError otherwise.

    The error says what is expected and does not repeat the value, which may hold a password.
    """
    try:
        parts = urlsplit(value)
        whole = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or any(character.isspace() for character in value):
        raise ValueError(f"a URL such as {example}")
    return value


def _checker(schemes: tuple[str, ...], example: str) -> Callable[[str], str]:
    return lambda value: check_url(value, schemes, example)


def _schema(schemes: tuple[str, ...], example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "pattern": f"^({'|'.join(schemes)})://", "examples": [example]}
    )


_HTTP = (("http", "https"), "https://example.com:8443/path")
_REDIS = (("redis", "rediss"), "redis://127.0.0.1:6379/0")
_POSTGRES = (("postgresql", "postgres"), "postgresql://user@127.0.0.1:5432/shop")

HttpUrl = Annotated[str, AfterValidator(_checker(*_HTTP)), _schema(*_HTTP)]
"""An `http://` or `https://` URL with a host."""

RedisUrl = Annotated[str, AfterValidator(_checker(*_REDIS)), _schema(*_REDIS), "secret"]
"""A `redis://` or `rediss://` (TLS) URL; it may hold a password."""

PostgresUrl = Annotated[str, AfterValidator(_checker(*_POSTGRES)), _schema(*_POSTGRES), "secret"]
"""A `postgresql://` URL; it may hold a password."""
