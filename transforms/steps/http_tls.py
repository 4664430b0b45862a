"""`tls:` of an HTTP call: whom we trust, and how we show who we are."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import model_validator
from typing_extensions import Self

from connectors.errors import FlowFileError
from connectors.settings import Secret, Settings

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Tls(Settings):
    """How an `https://` connection is secured. Files are looked for in the flow file's folder."""

    ca: Annotated[str, MinLen(1)] | None = None
    """PEM file of the authorities to trust, in place of the usual ones."""
    certificate: Annotated[str, MinLen(1)] | None = None
    """PEM file of our own certificate, for a server that asks for one."""
    key: Annotated[str, MinLen(1)] | None = None
    """PEM file of its key, where that is not in the file of the certificate."""
    key_password: Secret | None = None
    """Password of the key."""
    verify: bool = True
    """Whether the server's certificate is checked. Without it, anybody between can read and answer."""
    server_name: Annotated[str, MinLen(1)] | None = None
    """Name that the server's certificate must have, where it is not the URL's host."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest version of TLS that is spoken."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.certificate is None and (self.key is not None or self.key_password is not None):
            raise ValueError("certificate, since it has a key")
        if not self.verify and self.ca is not None:
            raise ValueError("ca or verify: false, not both")
        return self


@cache
def _usual() -> ssl.SSLContext:
    import httpx  # noqa: PLC0415 - a flow is read without it

    # It reads SSL_CERT_FILE and SSL_CERT_DIR.
    return httpx.create_ssl_context()


def ssl_context(tls: Tls | None, folder: Path) -> ssl.SSLContext:
    """Return the context. Raises FlowFileError for files that can't be used."""
    if tls is None:
        return _usual()
    if not tls.verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load("ca", tls.ca, lambda: context.load_verify_locations(folder / str(tls.ca)))
    else:
        import httpx  # noqa: PLC0415 - a flow is read without it

        context = httpx.create_ssl_context()
    context.minimum_version = _VERSIONS[tls.min_version]
    if tls.certificate is not None:
        key = None if tls.key is None else folder / tls.key
        # An empty password rather than none: OpenSSL would ask for it on the terminal.
        password = tls.key_password or ""
        _load(
            "certificate",
            tls.certificate,
            lambda: context.load_cert_chain(folder / str(tls.certificate), key, password),
        )
    return context


def _load(setting: str, file: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FlowFileError(
            f"tls.{setting} {file} can't be used: {why}.",
            code="http_tls_files",
            hint="It is a PEM file, looked for in the flow file's folder.",
        ) from None
