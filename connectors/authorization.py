"""How requests say who sends them: shared by what sends and what receives webhooks."""

from __future__ import annotations

from pydantic import model_validator
from typing_extensions import Self

from connectors.settings import Secret, Settings


class Authorization(Settings):
    """A bearer token, or a user and password."""

    bearer: Secret | None = None
    """Token of `Authorization: Bearer …`."""
    username: str | None = None
    """User of basic authentication."""
    password: Secret | None = None
    """Password of basic authentication."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password together")
        if (self.bearer is None) == (self.username is None):
            raise ValueError("either bearer, or username and password")
        return self
