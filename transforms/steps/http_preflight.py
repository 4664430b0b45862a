"""What `validate --connect` looks at for `step.http_call`: that its servers are there. Sends no request."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx

from connectors.contracts import Check
from transforms.steps.http_guard import fixed_part
from transforms.steps.http_settings import HttpCallSettings
from transforms.steps.http_tls import ssl_context

_PATIENCE = 10.0
"""Seconds for a connection at most."""
_PORTS = {"http": 80, "https": 443}


def preflight(settings: HttpCallSettings, folder: Path) -> Iterator[Check]:
    """Resolve, connect, shake hands. Raises FlowFileError for files of `tls`."""
    tls = ssl_context(settings.tls, folder)
    named = fixed_part(settings.url)
    name = settings.tls.server_name if settings.tls else None
    if settings.proxy is not None:
        yield from _reach("proxy", httpx.URL(settings.proxy), tls, settings)
        return  # what is behind it only a request can tell
    if named is None:
        yield Check("connect", ok=True, found="not tried: each event names its own host")
    else:
        yield from _reach("connect", httpx.URL(named), tls, settings, name)
    if settings.auth is not None and settings.auth.token_url is not None:
        yield from _reach("token server", httpx.URL(settings.auth.token_url), tls, settings)


def _reach(
    what: str,
    url: httpx.URL,
    tls: ssl.SSLContext,
    settings: HttpCallSettings,
    server_name: str | None = None,
) -> Iterator[Check]:
    host = url.raw_host.decode().strip("[]")
    port = url.port or _PORTS[url.scheme]
    patience = min(settings.connect_timeout or settings.timeout, _PATIENCE)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        connection = socket.create_connection((host, port), patience)
    except OSError as error:
        resolved = not isinstance(error, socket.gaierror)
        yield Check(
            what,
            ok=False,
            found=f"{shown} can't be reached: {_said(error)}"
            if resolved
            else f"{host} can't be resolved: {_said(error)}",
            hint="Is the server running, and does a firewall let this host through to it?"
            if resolved
            else "Is the name right, and known to this host's name server?",
            unreachable=True,
        )
        return
    with closing(connection):
        yield Check(what, ok=True, found=f"{shown} takes connections")
        if url.scheme == "https":
            yield _handshake(what, connection, tls, server_name or host)


def _handshake(what: str, connection: socket.socket, tls: ssl.SSLContext, host: str) -> Check:
    name = "tls" if what == "connect" else f"tls of the {what}"
    try:
        with tls.wrap_socket(connection, server_hostname=host) as secured:
            ends = (secured.getpeercert() or {}).get("notAfter")
            until = f", its certificate is good until {ends}" if ends else ""
            return Check(name, ok=True, found=f"{secured.version()}{until}")
    except ssl.SSLCertVerificationError as error:
        return Check(
            name,
            ok=False,
            found=f"the certificate of {host} is not trusted: {error.verify_message}",
            hint="Set tls.ca to a PEM file of its authority, or SSL_CERT_FILE for all calls.",
        )
    except (ssl.SSLError, ConnectionError) as error:
        return Check(
            name,
            ok=False,
            found=f"{host} and we don't agree on TLS: {_said(error)}",
            hint="Check tls.certificate and tls.min_version, and that the port speaks TLS.",
        )
    except OSError as error:
        return Check(
            name,
            ok=False,
            found=f"{host} did not shake hands: {_said(error)}",
            hint="Does the port speak TLS?",
            unreachable=True,
        )


def _said(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error) or type(error).__name__).rstrip(".")
