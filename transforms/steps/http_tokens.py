"""OAuth 2.0 client credentials (RFC 6749, 4.4): a token, fetched once for all who wait for it."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import deque
from typing import Any
from urllib.parse import quote_plus

import httpx
import orjson

from connectors.errors import FatalError, PenstockError, RetryableError
from transforms.steps.http_bodies import BodyPackedError, BodyTooLongError, read_body
from transforms.steps.http_settings import Auth

_LONGEST = 1_000_000
"""Bytes of the token server's answer."""
_EARLY = 30.0
"""Seconds before its end at which a token is replaced, or a tenth of its life if that is less."""
_REFUSED = {400, 401, 403}


class TokenSource:
    """Holds the token. All methods but `seen` run on the client's event loop."""

    def __init__(self, auth: Auth, client: httpx.AsyncClient, timeout: float) -> None:
        self._auth = auth
        self._client = client
        self._timeout = timeout
        self._token: str | None = None
        self._good_until = 0.0
        self._fetching: asyncio.Task[str] | None = None
        self.seen: deque[str] = deque(maxlen=4)
        """The newest tokens: no error may repeat them."""

    async def token(self) -> str:
        """Return a token that is good for now. Raises FatalError or RetryableError."""
        if self._token is not None and time.monotonic() < self._good_until:
            return self._token
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        # One call that runs out of time must not take the token from the others.
        return await asyncio.shield(self._fetching)

    async def token_after(self, refused: str) -> str:
        """Return a newer token than the one that a server has refused."""
        if self._token == refused:
            self._token = None
        return await self.token()

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # looked at, even if every call has given up waiting

    async def _fetch(self) -> str:
        try:
            status, body = await asyncio.wait_for(self._ask(), self._timeout)
        except (httpx.HTTPError, OSError, asyncio.TimeoutError, BodyPackedError) as error:
            late = isinstance(error, (asyncio.TimeoutError, httpx.TimeoutException))
            why = f"no answer within {self._timeout:g}s" if late else self._hidden(str(error))
            raise self._unavailable(why or type(error).__name__) from None
        except BodyTooLongError:
            raise self._unavailable("its answer is too long") from None
        try:
            said: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        said = said if isinstance(said, dict) else {}
        if status in _REFUSED:
            raise self._refused(status, said)
        token, kind = said.get("access_token"), str(said.get("token_type", "bearer"))
        if status != httpx.codes.OK or not isinstance(token, str) or not token:
            raise self._unavailable(f"status {status}, and no token")
        if kind.lower() != "bearer" or not token.isascii() or not token.isprintable():
            raise self._unavailable(f"a token that can't be sent, of type {self._hidden(kind)}")
        self._keep(token, said.get("expires_in"))
        return token

    def _keep(self, token: str, lifetime: Any) -> None:
        self.seen.append(token)
        self._token = token
        try:
            seconds = float(lifetime)
        except (TypeError, ValueError):
            seconds = float("inf")  # it says nothing: until a server refuses the token
        self._good_until = time.monotonic() + seconds - min(_EARLY, seconds / 10)

    async def _ask(self) -> tuple[int, bytes]:
        auth = self._auth
        form = {"grant_type": "client_credentials", **auth.params}
        if auth.scopes:
            form["scope"] = " ".join(auth.scopes)
        headers = {"accept": "application/json", "accept-encoding": "gzip, deflate"}
        client_id, secret = str(auth.client_id), str(auth.client_secret)
        if auth.client_auth == "body":
            form |= {"client_id": client_id, "client_secret": secret}
        else:
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
            headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        built = self._client.build_request("POST", str(auth.token_url), data=form, headers=headers)
        response = await self._client.send(built, stream=True)
        try:
            return response.status_code, await read_body(response, _LONGEST)
        finally:
            await response.aclose()

    def _refused(self, status: int, said: dict[str, Any]) -> PenstockError:
        words = [said.get("error"), said.get("error_description")]
        why = self._hidden(": ".join(word for word in words if isinstance(word, str)))
        return FatalError(
            f"the token server at {self._place} refused the client: {why or f'status {status}'}.",
            code="http_oauth_refused",
            hint="Check token_url, client_id, client_secret and scopes in `auth`.",
            status=status,
        )

    def _unavailable(self, why: str) -> PenstockError:
        return RetryableError(
            f"there is no token from {self._place}: {why.rstrip('.')}.",
            code="http_oauth_unavailable",
            hint="The call was not made. Is token_url right, and the server running?",
        )

    @property
    def _place(self) -> str:
        url = httpx.URL(str(self._auth.token_url))
        return f"{url.host}:{url.port}" if url.port else url.host

    def _hidden(self, text: str) -> str:
        for secret in (self._auth.client_secret, *self.seen):
            if secret:
                text = text.replace(secret, "***")
        return text if len(text) <= 200 else text[:199] + "…"
