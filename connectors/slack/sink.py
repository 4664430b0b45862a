"""`sink.slack`: a message per event, one after the other: Slack takes about one a second per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import httpx

from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.rendering import Render, compiled, context_of, escaped
from connectors.slack.answers import error_of_answer
from connectors.slack.settings import SlackSink as SlackSinkSettings
from connectors.webhook.answers import retry_after

_LONGEST = 40_000
"""Characters of a message's text; Slack cuts what is longer."""

Build = Callable[[Mapping[str, Any]], Any]


class SlackSink:
    """The sink. Requests are made on the dataflow's thread."""

    traits = SinkTraits(ordered=True, delivery="at_least_once", embeds=True)

    def __init__(self, name: str, settings: SlackSinkSettings) -> None:
        self._name = name
        self._settings = settings
        self._client: httpx.Client | None = None
        self._text: Render
        self._channel: Render | None = None
        self._blocks: Build | None = None

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - it has none
        """Ask Slack who the token is; a webhook can't be asked, so look whether its host answers."""
        settings = self._settings
        with self._make_client() as client:
            try:
                if settings.token is None:
                    host = httpx.URL(settings.webhook_url or "").copy_with(raw_path=b"/")
                    client.get(host)
                    yield Check("slack", ok=True, found=f"{host.host} answers")
                    return
                answer = client.post(f"{settings.api_url.rstrip('/')}/auth.test")
            except httpx.HTTPError as error:
                yield Check(
                    "slack",
                    ok=False,
                    found=self._masked(str(error) or type(error).__name__),
                    hint="Can this host reach Slack?",
                    unreachable=True,
                )
                return
            failed = error_of_answer(answer.status_code, answer.content, None, own_channel=False)
            if failed is None:
                yield Check("slack", ok=True, found="the token is good")
            else:
                yield Check("slack", ok=False, found=failed.message, hint=failed.hint)

    def open(self, opening: SinkOpening) -> None:
        """Compile the templates; the first message connects."""
        compile_template = opening.compile_template
        self._text = compiled(self._settings.text, compile_template)
        if self._settings.channel is not None:
            self._channel = compiled(self._settings.channel, compile_template)
        if self._settings.blocks is not None:
            self._blocks = _builder(
                self._settings.blocks, lambda text: compiled(text, compile_template)
            )
        self._client = self._make_client()

    def _make_client(self) -> httpx.Client:
        headers = {"user-agent": "penstock"}
        if self._settings.token is not None:
            headers["authorization"] = f"Bearer {self._settings.token}"
        return httpx.Client(headers=headers, timeout=self._settings.timeout, trust_env=False)

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Post each event; after one that has to be tried again, the others wait for it."""
        if not len(events):
            return {}
        attributes = events.attributes()
        failures: dict[int, PenstockError] = {}
        for index, value in enumerate(events.values):
            try:
                message = self._message(context_of(attributes, value, index))
            except PermanentError as error:
                failures[index] = error
                continue
            failed = self._post(message)
            if failed is None:
                continue
            failures[index] = failed
            if isinstance(failed, PermanentError):
                continue
            behind = failed
            if isinstance(failed, RetryableError):
                behind = RetryableError(
                    "not posted yet: an earlier message was not taken.",
                    code="slack_unavailable",
                    hint=f"The earlier one: {failed.message}",
                    retry_after=failed.retry_after,
                )
            failures.update(dict.fromkeys(range(index + 1, len(events)), behind))
            break
        return failures

    def _message(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is posted. Raises PermanentError."""
        channel = None if self._channel is None else self._channel(context).strip()
        shown = escaped(dict(context), _escape)
        message: dict[str, Any] = {"text": self._text(shown)[:_LONGEST]}
        if self._blocks is not None:
            message["blocks"] = self._blocks(shown)
        settings = self._settings
        given = {
            "channel": channel,
            "username": settings.username,
            "icon_emoji": settings.icon_emoji,
        }
        return message | {name: value for name, value in given.items() if value is not None}

    def _post(self, message: dict[str, Any]) -> PenstockError | None:
        client, settings = self._client, self._settings
        assert client is not None  # noqa: S101 - the contract: open comes first
        url = settings.webhook_url or f"{settings.api_url.rstrip('/')}/chat.postMessage"
        try:
            answer = client.post(url, json=message)
        except httpx.TimeoutException:
            return RetryableError(
                f"Slack did not answer within {settings.timeout:g}s.",
                code="slack_timeout",
                hint="It may have been posted; it is tried again.",
            )
        except (httpx.HTTPError, OSError) as error:
            if "CERTIFICATE" in str(error).upper():
                return FatalError(
                    f"the certificate of Slack's address is not trusted: {self._masked(str(error))}.",
                    code="slack_refused",
                    hint="Check `webhook_url` or `api_url`, and this host's certificates.",
                )
            said = self._masked(str(error) or type(error).__name__)
            return RetryableError(
                f"Slack can't be reached: {said}.",
                code="slack_unavailable",
                hint="It is tried again.",
            )
        wait = retry_after(answer.headers.get("retry-after"), datetime.now(timezone.utc))
        return error_of_answer(
            answer.status_code,
            answer.content,
            wait,
            own_channel=settings.channel is not None and "{{" in settings.channel,
        )

    def _masked(self, text: str) -> str:
        for secret in (self._settings.token, self._settings.webhook_url):
            if secret:
                text = text.replace(secret, "***")
        return text

    def settled_state(self) -> Mapping[str, str] | None:
        """Return None: a message can't be taken back."""
        return None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _escape(text: str) -> str:
    """Escape what mrkdwn reads as links and mentions (api.slack.com, "Escaping text")."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _builder(value: Any, compile_one: Callable[[str], Render]) -> Build:
    """Return what renders every string in a YAML value."""
    match value:
        case str():
            return compile_one(value)
        case dict():
            made = {name: _builder(inner, compile_one) for name, inner in value.items()}
            return lambda context: {name: build(context) for name, build in made.items()}
        case list() | tuple():
            built = [_builder(inner, compile_one) for inner in value]
            return lambda context: [build(context) for build in built]
        case _:
            return lambda _context: value
