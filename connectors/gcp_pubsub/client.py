"""A gRPC channel to Pub/Sub with the calls that we make.

The client library's own subscriber gives each message to a callback on a thread pool, with a future per
acknowledgement; ours takes a response as it comes. Of the library we use its messages and its credentials.
"""

from __future__ import annotations

import os
from typing import Any, Final

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1.types import pubsub as messages

from connectors.errors import FatalError
from connectors.gcp_pubsub.settings import PubsubSettings

GOOGLE: Final = "pubsub.googleapis.com:443"
_SCOPES = ("https://www.googleapis.com/auth/pubsub",)

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),  # acknowledgement errors come in trailers
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # Two readers of one process would share a connection otherwise, and its stall.
    ("grpc.use_local_subchannel_pool", 1),
)

ANSWER_SECONDS = 10.0


def wire(kind: Any) -> Any:
    """Return the protobuf class behind one of the library's: half the cost per message."""
    return kind.pb()


PubsubMessage = wire(messages.PubsubMessage)
AcknowledgeRequest = wire(messages.AcknowledgeRequest)
ModifyAckDeadlineRequest = wire(messages.ModifyAckDeadlineRequest)
StreamingPullRequest = wire(messages.StreamingPullRequest)
StreamingPullResponse = wire(messages.StreamingPullResponse)
GetSubscriptionRequest = wire(messages.GetSubscriptionRequest)
Subscription = wire(messages.Subscription)
SeekRequest = wire(messages.SeekRequest)
SeekResponse = wire(messages.SeekResponse)
GetTopicRequest = wire(messages.GetTopicRequest)
Topic = wire(messages.Topic)
PublishRequest = wire(messages.PublishRequest)
PublishResponse = wire(messages.PublishResponse)


class Client:
    """One channel. Its calls raise `grpc.RpcError`; `connectors.gcp_pubsub.failures` reads those."""

    def __init__(self, settings: PubsubSettings) -> None:
        self.address, self.plain = address_of(settings)
        self._channel = _channel(settings, self.address, plain=self.plain)
        subscriber, publisher = "/google.pubsub.v1.Subscriber/", "/google.pubsub.v1.Publisher/"
        self.acknowledge = self._unary(subscriber + "Acknowledge", empty_pb2.Empty)
        self.modify_ack_deadline = self._unary(subscriber + "ModifyAckDeadline", empty_pb2.Empty)
        self.get_subscription = self._unary(subscriber + "GetSubscription", Subscription)
        self.seek = self._unary(subscriber + "Seek", SeekResponse)
        self.get_topic = self._unary(publisher + "GetTopic", Topic)
        self.publish = self._unary(publisher + "Publish", PublishResponse)
        self.streaming_pull: Any = self._channel.stream_stream(
            subscriber + "StreamingPull",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=StreamingPullResponse.FromString,
        )

    def _unary(self, method: str, answer: Any) -> Any:
        return self._channel.unary_unary(
            method,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def close(self) -> None:
        """End every call and the connection."""
        self._channel.close()


def address_of(settings: PubsubSettings) -> tuple[str, bool]:
    """Return `host:port`, and whether it is spoken to without TLS and credentials."""
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST", "")
    address = settings.endpoint or emulator
    if not address:
        return GOOGLE, False
    address = address.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, _, port = address.rpartition(":")
    ours = (host or port).endswith(".googleapis.com")
    plain = not ours and settings.credentials_file is None
    return (address if host else f"{address}:443"), plain


def _channel(settings: PubsubSettings, address: str, *, plain: bool) -> Any:
    if plain:
        # An emulator is close by: a proxy for the web is not the way to it.
        return grpc.insecure_channel(address, (*_OPTIONS, ("grpc.enable_http_proxy", 0)))
    import google.auth  # noqa: PLC0415 - not needed for an emulator
    import google.auth.exceptions  # noqa: PLC0415
    import google.auth.transport.grpc  # noqa: PLC0415
    import google.auth.transport.requests  # noqa: PLC0415

    try:
        if settings.credentials_file is None:
            credentials, _ = google.auth.default(_SCOPES)
        else:
            load: Any = google.auth.load_credentials_from_file
            credentials, _ = load(settings.credentials_file, _SCOPES)
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        raise FatalError(
            f"there are no Google credentials: {str(error).splitlines()[0]}",
            code="pubsub_credentials",
            hint="Name a file in `credentials_file`, or set GOOGLE_APPLICATION_CREDENTIALS.",
        ) from error
    request = google.auth.transport.requests.Request()
    authorized: Any = google.auth.transport.grpc.secure_authorized_channel
    return authorized(credentials, request, address, options=_OPTIONS)
