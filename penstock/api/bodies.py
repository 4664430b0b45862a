"""Reading a request's body: so many bytes, within so many seconds."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from penstock.api.errors import ApiError


async def read_body(request: Request, *, longest: int, seconds: float, too_large: str) -> bytes:
    """Return the body. Raises ApiError `body_too_large`, with this hint, and `body_too_slow`."""
    try:
        return await asyncio.wait_for(_read(request, longest, too_large), seconds)
    except asyncio.TimeoutError:
        raise ApiError(
            f"the body did not come within {seconds:g} seconds.",
            code="body_too_slow",
            status=408,
            hint="Nothing was done with it.",
            headers={"connection": "close"},
        ) from None


async def _read(request: Request, longest: int, too_large: str) -> bytes:
    body = bytearray()
    # Its length is counted, not believed: who is answered before the sending is over may miss the answer.
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest:
            raise ApiError(
                f"the body is larger than {longest} bytes.",
                code="body_too_large",
                status=413,
                hint=too_large,
                headers={"connection": "close"},
            )
    return bytes(body)
