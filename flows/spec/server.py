"""The `server:` key: where the HTTP API listens, and who may call it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema, model_validator
from typing_extensions import Self

from connectors.settings import Settings, WrongPart

DEFAULT_ADDRESS = "127.0.0.1:8080"

SHORTEST_TOKEN = 16
"""Characters. What `openssl rand -hex 8` prints is the least that nobody guesses over a network."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What may stand behind `Authorization: Bearer` (RFC 6750, 2.1)."""


@dataclass(frozen=True, slots=True)
class Token:
    """One line of `server.tokens`: whoever shows `secret` is called `name`."""

    name: str
    secret: str = field(repr=False)
    writes: bool
    """Whether it may change anything: replay, discard."""


def check_address(value: str) -> str:
    """Return an address as it is. Raises ValueError with what is expected."""
    match = _ADDRESS.fullmatch(value)
    if not match or int(match[2]) > 65535:
        raise ValueError(f"an address such as {DEFAULT_ADDRESS}")
    return value


def split_address(address: str) -> tuple[str, int]:
    """Return host (an IPv6 address without its brackets) and port of a checked address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name other than localhost may lead anywhere."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Return the tokens of a text: `name:token` or `name:token:read|write` a line, `#` comments.

    Raises ValueError with a sentence that tells the line's number and nothing that stands in it.
    """
    tokens: list[Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()  # noqa: PLW2901 - the same line
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        secret, _, scope = rest.partition(":")
        if not _NAME.fullmatch(name) or not _TOKEN.fullmatch(secret):
            raise ValueError(f"Line {number} of the tokens is not name:token or name:token:write.")
        if scope not in {"", "read", "write"}:
            raise ValueError(f"Line {number} of the tokens ends in neither :read nor :write.")
        if len(secret) < SHORTEST_TOKEN:
            raise ValueError(
                f"The token in line {number} has less than {SHORTEST_TOKEN} characters;"
                " `openssl rand -hex 32` makes a good one."
            )
        if any(token.name == name or token.secret == secret for token in tokens):
            raise ValueError(
                f"Line {number} of the tokens has a name or token that is there already."
            )
        tokens.append(Token(name, secret, writes=scope == "write"))
    if not tokens:
        raise ValueError("There is no token in it; write name:token or name:token:write.")
    return tuple(tokens)


def _check_tokens(value: str) -> str:
    parse_tokens(value)
    return value


class Server(Settings):
    """Where the HTTP API is served."""

    address: Annotated[
        str,
        AfterValidator(check_address),
        WithJsonSchema(
            {"type": "string", "pattern": f"^({_ADDRESS.pattern})$", "examples": [DEFAULT_ADDRESS]}
        ),
    ] = DEFAULT_ADDRESS
    """Address and port to listen on; one that other machines reach needs `tokens`."""
    tokens: (
        Annotated[str, AfterValidator(_check_tokens), WithJsonSchema({"type": "string"}), "secret"]
        | None
    ) = None
    """Who may call: a line `name:token` each, which may read, or `name:token:write`, which may
    change things too; shown as `Authorization: Bearer TOKEN`."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.tokens is None and not is_loopback(split_address(self.address)[0]):
            raise WrongPart(
                f"{self.address} is reached from other machines, and there are no tokens.",
                ("address",),
                code="server_tokens_missing",
                hint='Add tokens: "${file:tokens.txt}" with a line name:token or name:token:write'
                f" each, or listen on {DEFAULT_ADDRESS}.",
            )
        return self
