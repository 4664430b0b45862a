"""Who may call: tokens, the Host a request was sent to, and the page it was sent from.

Without tokens only this machine reaches the server, and then a browser on it must not be made a
tool: a page whose name is pointed at 127.0.0.1 (DNS rebinding) is told by its Host, one that posts
across origins by its Origin. With tokens neither is needed, since no browser adds a token by itself.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request

from flows.spec.server import Token, is_loopback
from penstock.api.errors import ApiError
from penstock.api.registry_wire import is_registry

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What a probe asks, which has no token; it is told no more than whether all is well."""

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Access:
    """Admits requests."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [(token, token.secret.encode()) for token in tokens]

    @property
    def guarded(self) -> bool:
        """Whether callers must show a token."""
        return bool(self._tokens)

    def admit_sender(self, request: Request) -> None:
        """Refuse what another site's page sends to a webhook of a server that only this machine reaches.

        Who else may send, its source says itself. Raises ApiError.
        """
        if not self.guarded:
            _check_origin(request)

    def admit(self, request: Request) -> str | None:
        """Return the caller's name, None for one who needs none. Raises ApiError."""
        if not self.guarded:
            _check_host(request)
            _check_origin(request)
            return None
        shown = _bearer(request)
        if shown is None and is_registry(request.scope["path"]):
            shown = _password(request)
        if shown is None and request.scope["path"] in OPEN_PATHS:
            return None
        caller = self._caller(shown)
        if request.method not in READING and not caller.writes:
            raise ApiError(
                f"the token {caller.name} may read only.",
                code="token_read_only",
                status=403,
                hint=f"Write {caller.name}:…:write in server.tokens, or use a token that may write.",
            )
        return caller.name

    def _caller(self, shown: bytes | None) -> Token:
        if shown is None:
            raise _unauthorized(
                "this needs a token.", "token_missing", "Send `Authorization: Bearer TOKEN`."
            )
        found = None
        for token, secret in self._tokens:  # all of them: the time tells nothing of which it was
            if hmac.compare_digest(secret, shown):
                found = token
        if found is None:
            raise _unauthorized(
                "this token is not known.",
                "token_unknown",
                "server.tokens says which are; they are read when the flow starts.",
            )
        return found


def _bearer(request: Request) -> bytes | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" and token.strip() else None


def _password(request: Request) -> bytes | None:
    """Return a token that is shown as the password of a user, whose name does not matter.

    Confluent's clients know no other way. A browser may add a password by itself, so the page that
    asks must be ours.
    """
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    _check_origin(request)
    try:
        return base64.b64decode(shown, validate=True).partition(b":")[2] or None
    except ValueError:
        return None


def _unauthorized(message: str, code: str, hint: str) -> ApiError:
    challenge = {"www-authenticate": 'Bearer realm="penstock"'}
    return ApiError(message, code=code, status=401, hint=hint, headers=challenge)


def _check_host(request: Request) -> None:
    host = request.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        raise ApiError(
            "this server answers requests to 127.0.0.1 and localhost only.",
            code="host_refused",
            status=421,
            hint="Set server.tokens to have it called by another name, or through a proxy.",
        )


def _check_origin(request: Request) -> None:
    """Refuse a change that another site's page asks for: a browser says so, programs say nothing.

    What it may read, a browser does not hand to that page.
    """
    if request.method in READING:
        return
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "none")
    same = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if same and site in {"none", "same-origin"}:
        return
    raise ApiError(
        "this request comes from another site's page.",
        code="origin_refused",
        status=403,
        hint="Call it from a program, or from a page that this server serves.",
    )
