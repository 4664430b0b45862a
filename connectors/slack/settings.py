"""Configuration of `sink.slack`, which is `notification.slack` too."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, MinLen
from pydantic import AliasChoices, Field, model_validator
from typing_extensions import Self

from connectors.addresses import HttpUrl
from connectors.settings import Duration, Secret, Settings, Template, TemplateValue


class SlackSink(Settings):
    """Configuration of `sink.slack`: an incoming webhook, or a bot token and a channel."""

    webhook_url: Annotated[HttpUrl, "secret"] | None = Field(
        default=None, validation_alias=AliasChoices("webhook_url", "webhookURL")
    )
    """Incoming webhook's URL; it is a secret. `webhookURL` is read too."""
    token: Secret | None = None
    """Bot token, with the scope chat:write."""
    channel: Template | None = None
    """Channel to post to; a webhook has its own."""
    username: str | None = None
    """Name that messages appear under."""
    icon_emoji: Annotated[str, Field(pattern=r"^:[^:\s]+:$")] | None = None
    """Emoji that messages appear with, such as `:ship:`."""
    text: Annotated[Template, MinLen(1)] = "{{ .type }}: {{ .data | json }}"
    """Text of the message, in Slack's mrkdwn; what is inserted is escaped (`&`, `<`, `>`), so that no event
    can mention a channel or write a link."""
    blocks: TemplateValue = None
    """Block Kit blocks; `text` is then what notifications show."""
    api_url: HttpUrl = "https://slack.com/api"
    """Where Slack's API is, for a token; GovSlack and proxies have another address."""
    timeout: Annotated[Duration, Ge(1)] = 10.0
    """How long Slack may take to answer."""

    @model_validator(mode="after")
    def _one_road(self) -> Self:
        if (self.webhook_url is None) == (self.token is None):
            raise ValueError("either webhook_url or token")
        if self.token is not None and not self.channel:
            raise ValueError("channel, which a token needs")
        return self
