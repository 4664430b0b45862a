"""Configuration of `sink.email`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import Field, model_validator
from typing_extensions import Self

from connectors.settings import Duration, Secret, Settings, Template


class EmailSink(Settings):
    """Configuration of `sink.email`."""

    provider: Literal["smtp", "ses"] = "smtp"
    """How mail leaves: an SMTP server, or Amazon SES with the AWS SDK's own credentials."""
    host: str | None = None
    """SMTP server; required by `smtp`."""
    port: Annotated[int, Ge(1), Le(65535)] | None = None
    """Port of the server; default: 587 with starttls, 465 with tls, 25 with none."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection to the server is protected."""
    ca_file: str | None = None
    """PEM file of the authority that signed the server's certificate; default: the system's."""
    username: str | None = None
    """User at the server."""
    password: Secret | None = None
    """Password at the server."""
    region: str | None = None
    """Region of `ses`; default: the environment's."""
    sender: Annotated[Template, MinLen(3)] = Field(alias="from")
    """Sender: `Shop <shop@example.com>`."""
    to: Annotated[list[Template], MinLen(1)]
    """Recipients."""
    cc: list[Template] = Field(default_factory=list)
    """Recipients of a copy."""
    bcc: list[Template] = Field(default_factory=list)
    """Recipients of a copy that the others don't see."""
    reply_to: Template | None = None
    """Address that answers go to."""
    subject: Annotated[Template, MinLen(1)]
    """Subject line."""
    text: Template | None = None
    """Body as plain text."""
    html: Template | None = None
    """Body as HTML; values are escaped."""
    timeout: Annotated[Duration, Ge(1)] = 30.0
    """How long the server may take to answer."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.provider == "smtp" and not self.host:
            raise ValueError("host, the SMTP server to send by (or provider: ses)")
        if self.provider == "ses" and (self.host or self.port or self.username or self.password):
            raise ValueError("no host, port, username or password with provider ses")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password together")
        if self.text is None and self.html is None:
            raise ValueError("a body: text, html or both")
        if self.security == "none" and self.password is not None:
            raise ValueError(
                "security starttls or tls with a password: it would be sent in the clear"
            )
        return self

    def not_built(self) -> list[str]:
        """Return the settings, as `key: value`, that are modelled and not built yet."""
        return ["provider: ses"] if self.provider == "ses" else []
