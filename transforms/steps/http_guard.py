"""Keeps calls whose host an event has named away from the addresses inside.

An event that names `169.254.169.254` or a name that resolves to `10.0.0.5` must not make the worker
ask a server that its sender can't reach. So the host is resolved here, every address is looked at,
and the connection goes to an address that was: a name that means something else a moment later, a
redirect, an address in decimal or octal or inside an IPv6 one don't get around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from connectors.errors import PermanentError

_FIXED = re.compile(r"https?://[^/?#{\\]+(?=[/?#])")
_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?")

_INSIDE_4 = [
    (IPv4Network(text), what)
    for text, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "private (shared)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "metadata"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]
_INSIDE_6 = [
    (IPv6Network(text), what)
    for text, what in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("2002::/16", "reserved"),
        ("3fff::/20", "reserved"),
    )
]
_PUBLIC_6 = IPv6Network("2000::/3")
_HOLDS_4 = [IPv6Network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "::/96")]
"""An IPv4 address is in the last 32 bits: mapped, behind NAT64, compatible."""

Address = IPv4Address | IPv6Address


def fixed_host(url: str) -> str | None:
    """Return the host of a URL template, where no expression has a say in it; else None."""
    part = fixed_part(url)
    return None if part is None else _host(part)


def fixed_part(url: str) -> str | None:
    """Return a URL template's scheme, host and port, where no expression has a say in them."""
    if "{{" not in url:
        return url
    match = _FIXED.match(url)
    return match[0] if match else None


def _host(url: str) -> str:
    import httpx  # noqa: PLC0415 - a flow is read without it

    return httpx.URL(url).raw_host.decode().strip("[]").lower()


def inside(address: Address) -> str | None:
    """Return what kind of address it is that is not the internet's; None when it is the internet's."""
    if isinstance(address, IPv4Address):
        return next((what for network, what in _INSIDE_4 if address in network), None)
    for network, what in _INSIDE_6:
        if address in network:
            return what
    if any(address in network for network in _HOLDS_4):
        return inside(IPv4Address(int(address) & 0xFFFFFFFF))
    return None if address in _PUBLIC_6 else "reserved"


def check_allowed(value: bool | list[str]) -> bool | list[str]:
    """Return the setting `allow_private` if each entry is an address, network or host."""
    for entry in value if isinstance(value, list) else ():
        try:
            ip_network(entry, strict=False)
        except ValueError:
            if "/" in entry or not _NAME.fullmatch(entry):
                raise ValueError(
                    f"addresses, networks such as 10.1.0.0/16, and hosts such as *.internal; {entry!r} is none"
                ) from None
    return value


class Allowed:
    """What the flow lets events name besides the internet."""

    def __init__(self, allow_private: bool | Sequence[str]) -> None:
        self.everything = allow_private is True
        self._networks: list[IPv4Network | IPv6Network] = []
        self._names: set[str] = set()
        self._suffixes: tuple[str, ...] = ()
        for entry in allow_private if isinstance(allow_private, Sequence) else ():
            try:
                self._networks.append(ip_network(entry, strict=False))
            except ValueError:
                name = entry.lower().rstrip(".")
                if name.startswith("*."):
                    self._suffixes += (name[1:],)
                else:
                    self._names.add(name)

    def name(self, host: str) -> bool:
        """Whether this host may be called, whatever it resolves to."""
        name = host.lower().rstrip(".")
        return self.everything or name in self._names or name.endswith(self._suffixes or ("\0",))

    def address(self, address: Address) -> bool:
        """Whether this address may be called, though it is not the internet's."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Raise PermanentError if one of the addresses that the host resolves to is refused."""
        for text in addresses:
            address = ip_address(text.partition("%")[0])
            kind = inside(address)
            if kind is not None and not self.address(address):
                is_it = "is" if text == host else f"resolves to {text},"
                raise PermanentError(
                    f"the event names the host {host}, which {is_it} a {kind} address.",
                    code="http_private_address",
                    hint="Nothing was sent. Where the flow is to call it, list it in `allow_private`.",
                    host=host,
                    address=text,
                )
