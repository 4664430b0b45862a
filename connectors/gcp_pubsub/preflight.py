"""What is checked before a subscription is read, or a topic written, without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc

from connectors.contracts import Check
from connectors.errors import FatalError
from connectors.gcp_pubsub.client import (
    ANSWER_SECONDS,
    Client,
    GetSubscriptionRequest,
    GetTopicRequest,
)
from connectors.gcp_pubsub.failures import opening_failed
from connectors.gcp_pubsub.settings import PubsubSettings

_DELETED = "_deleted-topic_"


def reading(settings: PubsubSettings, path: str) -> Iterable[Check]:
    """Check that the subscription is there and can be pulled from."""
    return _checks(settings, lambda client: [_subscription(client, path)])


def publishing(settings: PubsubSettings, paths: Iterable[str]) -> Iterable[Check]:
    """Check that the topics are there."""
    return _checks(settings, lambda client: [_topic(client, path) for path in paths])


def _checks(settings: PubsubSettings, look: Callable[[Client], list[Check]]) -> list[Check]:
    try:
        client = Client(settings)
    except FatalError as error:
        return [Check("credentials", ok=False, found=error.message, hint=error.hint)]
    try:
        return look(client)
    finally:
        client.close()


def _subscription(client: Client, path: str) -> Check:
    name = f"subscription {path}"
    found = _asked(client, name, client.get_subscription, GetSubscriptionRequest(subscription=path))
    if isinstance(found, Check):
        return found
    if found.detached or found.topic == _DELETED:
        return Check(
            name,
            ok=False,
            found="its topic is gone" if found.topic == _DELETED else "it is detached",
            hint="Create a subscription of a topic that is there, and name that.",
        )
    if found.push_config.push_endpoint:
        return Check(
            name,
            ok=False,
            found="Pub/Sub pushes its messages",
            hint="Set its delivery type to pull: gcloud pubsub subscriptions update NAME"
            " --push-endpoint=''",
        )
    traits = [
        "messages in order of their keys" if found.enable_message_ordering else "no order kept",
        *(["exactly once"] if found.enable_exactly_once_delivery else []),
    ]
    return Check(name, ok=True, found=f"of {found.topic}, {', '.join(traits)}")


def _topic(client: Client, path: str) -> Check:
    name = f"topic {path}"
    found = _asked(client, name, client.get_topic, GetTopicRequest(topic=path))
    return found if isinstance(found, Check) else Check(name, ok=True, found="there")


def _asked(client: Client, name: str, call: Any, request: Any) -> Any:
    try:
        return call(request, timeout=ANSWER_SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            return Check(
                name,
                ok=False,
                found="we may not look at it",
                hint="roles/pubsub.viewer lets the preflight look; running does not need it.",
                severity="warning",
            )
        known = opening_failed(error, client.address, f"the {name}")
        return Check(
            name, ok=False, found=known.message, hint=known.hint, unreachable=known.unreachable
        )
