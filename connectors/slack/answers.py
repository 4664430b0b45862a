"""What Slack's answer means to the message. Pure.

Codes as the pages of chat.postMessage and of incoming webhooks list them
(api.slack.com/methods/chat.postMessage, api.slack.com/messaging/webhooks).
"""

from __future__ import annotations

import orjson

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError

_LATER = {
    *("ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"),
    *("request_timeout", "team_added_to_org", "message_limit_exceeded"),
}
_OF_ALL = {
    "invalid_auth": "Check `token`.",
    "not_authed": "Check `token`.",
    "account_inactive": "The token's bot was removed: install it again.",
    "token_revoked": "Make a new token.",
    "token_expired": "Make a new token.",
    "missing_scope": "Give the bot the scope chat:write (and chat:write.customize for `username` and"
    " `icon_emoji`).",
    "no_permission": "Give the bot the right to post.",
    "not_allowed_token_type": "Use a bot token (xoxb-…).",
    "org_login_required": "The workspace is being moved.",
    "access_denied": "An administrator restricts the bot.",
    "ekm_access_denied": "An administrator restricts the bot.",
    "no_service": "The webhook was removed or switched off: make a new one.",
    "no_active_hooks": "The webhook was removed or switched off: make a new one.",
    "no_team": "Check `webhook_url`.",
    "team_disabled": "The workspace is no longer active.",
    "invalid_token": "Check `webhook_url`.",
    "action_prohibited": "An administrator restricts the webhook.",
    "posting_to_general_channel_denied": "Only administrators may post to #general.",
}
_OF_CHANNEL = {
    "channel_not_found": "Check the channel's name or id; a private one needs the bot in it.",
    "not_in_channel": "Invite the bot to the channel.",
    "is_archived": "The channel is archived.",
    "channel_is_archived": "The channel is archived.",
    "restricted_action": "The workspace's settings restrict the channel.",
}


def error_of_answer(
    status: int, body: bytes, retry_after: float | None, *, own_channel: bool
) -> PenstockError | None:
    """Return None when the message was posted. `own_channel`: each event may name another channel."""
    code = _code(body)
    if status == 200 and code in {"", "ok"}:
        return None
    if status == 429 or status >= 500 or status == 408 or code in _LATER:
        return RetryableError(
            f"Slack answered {status}: {code or 'no reason'}.",
            code="slack_unavailable",
            hint="It is tried again.",
            retry_after=retry_after,
            status=status,
        )
    if code in _OF_ALL:
        return FatalError(
            f"Slack refused: {code}.", code="slack_refused", hint=_OF_ALL[code], slack_code=code
        )
    if code in _OF_CHANNEL:
        hint = _OF_CHANNEL[code]
        if own_channel:
            return PermanentError(
                f"Slack refused the channel: {code}.",
                code="slack_channel",
                hint=hint,
                slack_code=code,
            )
        return FatalError(
            f"Slack refused the channel: {code}.", code="slack_channel", hint=hint, slack_code=code
        )
    return PermanentError(
        f"Slack refused the message: {code or status}.",
        code="slack_message",
        hint="Check what `text` and `blocks` render to, then replay it.",
        slack_code=code,
        status=status,
    )


def _code(body: bytes) -> str:
    """Return Slack's code for what is wrong; "" when its API says ok."""
    text = body[:300].decode("utf-8", "replace").strip()
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return text
    if not isinstance(answer, dict):
        return text
    return "" if answer.get("ok") is True else str(answer.get("error", "unknown"))
