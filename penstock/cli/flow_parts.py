"""What `penstock init` puts into a flow file for each choice of a source and of a sink.

Texts go through `str.format`: `{name}` is the flow's name, `{slot}` the same for what takes no dashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SourceKind = Literal["postgres", "kafka", "redis", "sqs", "pubsub", "http", "schedule", "file"]
SinkKind = Literal[
    "kafka",
    "file",
    "webhook",
    "stdout",
    "postgres",
    "s3",
    "elasticsearch",
    "redis",
    "sqs",
    "pubsub",
    "email",
    "slack",
]


@dataclass(frozen=True, slots=True)
class SinkPart:
    """What the choice of a sink puts into the file."""

    title: str
    module: str
    environment: tuple[str, ...] = ()
    """Variables that the file reads, as `NAME=example`."""


@dataclass(frozen=True, slots=True)
class SourcePart:
    """What the choice of a source puts into the file."""

    name: str
    title: str
    module: str
    environment: tuple[str, ...]
    """Variables that the file reads, as `NAME=example`."""
    shape: str
    """A jq program that fits its events."""
    event_type: str
    """A pattern of their types, quoted."""
    event: str
    """An event of a first test."""
    published: str
    """What the flow publishes of it."""


SOURCES: dict[SourceKind, SourcePart] = {
    "postgres": SourcePart(
        "changes",
        "row changes in PostgreSQL",
        """\
  # Reads the write-ahead log. The server needs wal_level=logical and the role REPLICATION; the
  # publication and the replication slot are made at the first start.
  - name: changes
    type: source.postgres_cdc
    config:
      connection: "${{DATABASE_URL:-postgresql://postgres@127.0.0.1:5432/postgres}}"
      slot_name: {slot}
      tables:
        - {{ schema: public, table: orders }}
      snapshot: initial               # the rows there are first, then each change""",
        ("DATABASE_URL=postgresql://user:password@host:5432/database",),
        "{change: .operation, row: .data}",
        '"public.orders.*"',
        "{ before: { id: 7, status: placed }, after: { id: 7, status: paid } }",
        "{ change: UPDATE, row: { id: 7, status: paid } }",
    ),
    "kafka": SourcePart(
        "messages",
        "messages in Kafka",
        """\
  - name: messages
    type: source.kafka
    config:
      brokers: "${{KAFKA_BROKERS:-127.0.0.1:9092}}"
      topics: [orders]
      start: earliest                 # where to begin when no position is stored yet
      # options: {{ security.protocol: SASL_SSL }}   # any property of librdkafka""",
        ("KAFKA_BROKERS=host:9092",),
        "{received: .time, message: .data}",
        '"order.*"',
        "{ time: 2026-01-01T12:00:00Z, data: { id: 7, status: paid } }",
        "{ received: 2026-01-01T12:00:00Z, message: { id: 7, status: paid } }",
    ),
    "redis": SourcePart(
        "entries",
        "entries of Redis streams",
        """\
  - name: entries
    type: source.redis_stream
    config:
      url: "${{REDIS_SERVER:-redis://127.0.0.1:6379/0}}"
      streams: [orders]
      group: {slot}                   # the consumer group; made at the first start
      start: "0"                      # where a new group begins; $: from now on""",
        ("REDIS_SERVER=redis://user:password@host:6379/0",),
        "{received: .time, entry: .data}",
        '"redis.*"',
        "{ time: 2026-01-01T12:00:00Z, data: { id: 7, status: paid } }",
        "{ received: 2026-01-01T12:00:00Z, entry: { id: 7, status: paid } }",
    ),
    "sqs": SourcePart(
        "messages",
        "messages of an SQS queue",
        """\
  # Credentials are those of the environment, as for AWS's own tools.
  - name: messages
    type: source.aws_sqs
    config:
      queue_url: "${{SQS_QUEUE_URL:-https://sqs.eu-west-1.amazonaws.com/123456789012/orders}}"
      visibility_timeout: 60s         # prolonged for as long as an event is on its way""",
        ("SQS_QUEUE_URL=https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE",),
        "{received: .time, message: .data}",
        '"aws.sqs.*"',
        "{ time: 2026-01-01T12:00:00Z, data: { id: 7, status: paid } }",
        "{ received: 2026-01-01T12:00:00Z, message: { id: 7, status: paid } }",
    ),
    "pubsub": SourcePart(
        "messages",
        "messages of a Pub/Sub subscription",
        """\
  # Credentials are those of the environment, as for Google's own tools.
  - name: messages
    type: source.gcp_pubsub
    config:
      project: "${{GCP_PROJECT:-my-project}}"
      subscription: orders-penstock""",
        ("GCP_PROJECT=my-project",),
        "{received: .time, message: .data}",
        '"gcp.*"',
        "{ time: 2026-01-01T12:00:00Z, data: { id: 7, status: paid } }",
        "{ received: 2026-01-01T12:00:00Z, message: { id: 7, status: paid } }",
    ),
    "http": SourcePart(
        "requests",
        "webhooks",
        """\
  # Answered 202 once the event is on the disk. It listens where the flow's `server` does, by
  # default on 127.0.0.1:8080: curl -d '{{"id": 7}}' http://127.0.0.1:8080/hooks/orders
  - name: requests
    type: source.http
    config:
      path: /hooks/orders
      # signature: {{ scheme: github, secret: "${{HOOK_SECRET}}" }}   # or stripe, slack, …
      # auth: {{ bearer: "${{HOOK_TOKEN}}" }}""",
        (),
        "{received: .time, body: .data}",
        '"http.*"',
        "{ time: 2026-01-01T12:00:00Z, data: { id: 7, status: paid } }",
        "{ received: 2026-01-01T12:00:00Z, body: { id: 7, status: paid } }",
    ),
    "schedule": SourcePart(
        "times",
        "a schedule",
        """\
  - name: times
    type: source.schedule
    config:
      cron: "30 7 * * MON-FRI"        # minute, hour, day, month, weekday; or every: 15m
      timezone: UTC""",
        (),
        "{at: .time}",
        '"schedule.*"',
        "{ time: 2026-01-01T07:30:00Z, data: {} }",
        "{ at: 2026-01-01T07:30:00Z }",
    ),
    "file": SourcePart(
        "lines",
        "lines of files",
        """\
  - name: lines
    type: source.file
    config:
      path: "in/**/*.jsonl"
      follow: true                    # wait for more; without, the flow ends with the files""",
        (),
        "{received: .time, line: .data}",
        '"file.*"',
        "{ time: 2026-01-01T12:00:00Z, data: { id: 7, status: paid } }",
        "{ received: 2026-01-01T12:00:00Z, line: { id: 7, status: paid } }",
    ),
}

SINKS: dict[SinkKind, SinkPart] = {
    "kafka": SinkPart(
        "Kafka",
        """\
  - name: out
    type: sink.kafka
    config:
      brokers: "${{KAFKA_BROKERS:-127.0.0.1:9092}}"
      topic: {name}.events            # where `publish` goes when it names no topic""",
        ("KAFKA_BROKERS=host:9092",),
    ),
    "file": SinkPart(
        "JSON Lines files",
        """\
  - name: out
    type: sink.file
    config:
      path: "{name}.jsonl"            # may hold {{{{ .type }}}}: a file per type of event
      rotate: 100MB""",
    ),
    "webhook": SinkPart(
        "a webhook",
        """\
  - name: out
    type: sink.webhook
    config:
      url: "${{WEBHOOK_URL:-http://127.0.0.1:8000/events}}\"""",
        ("WEBHOOK_URL=https://host/path",),
    ),
    "stdout": SinkPart(
        "standard output",
        """\
  - name: out
    type: sink.stdout""",
    ),
    "postgres": SinkPart(
        "PostgreSQL",
        """\
  # CREATE TABLE events (id text PRIMARY KEY, at timestamptz, body jsonb)
  - name: out
    type: sink.postgres
    config:
      connection: "${{SINK_DATABASE_URL:-postgresql://postgres@127.0.0.1:5432/postgres}}"
      table: public.events
      mode: upsert                    # or insert; merge deletes, too, what CDC says is deleted
      keys: [id]
      columns: {{ id: .id, at: .time, body: .data }}   # jq; without, the data's own keys""",
        ("SINK_DATABASE_URL=postgresql://user:password@host:5432/database",),
    ),
    "s3": SinkPart(
        "S3",
        """\
  # Credentials are those of the environment, as for AWS's own tools.
  - name: out
    type: sink.s3
    config:
      bucket: "${{S3_BUCKET:-my-bucket}}"
      region: eu-west-1
      key: "{name}/day={{{{ .time[:10] }}}}/events.jsonl"
      compression: zstd
      roll: {{ events: 100000, size: 64MB, age: 5m }}""",
        ("S3_BUCKET=my-bucket",),
    ),
    "elasticsearch": SinkPart(
        "Elasticsearch",
        """\
  - name: out
    type: sink.elasticsearch
    config:
      urls: ["${{SEARCH_URL:-http://127.0.0.1:9200}}"]
      index: {name}
      id: "{{{{ .id }}}}"               # a document that comes again replaces itself""",
        ("SEARCH_URL=http://host:9200",),
    ),
    "redis": SinkPart(
        "a Redis stream",
        """\
  - name: out
    type: sink.redis_stream
    config:
      url: "${{REDIS_SERVER:-redis://127.0.0.1:6379/0}}"
      stream: {name}
      max_length: 1000000             # about so many entries are kept""",
        ("REDIS_SERVER=redis://user:password@host:6379/0",),
    ),
    "sqs": SinkPart(
        "an SQS queue",
        """\
  - name: out
    type: sink.aws_sqs
    config:
      queue_url: "${{SINK_QUEUE_URL:-https://sqs.eu-west-1.amazonaws.com/123456789012/{name}}}\"""",
        ("SINK_QUEUE_URL=https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE",),
    ),
    "pubsub": SinkPart(
        "a Pub/Sub topic",
        """\
  - name: out
    type: sink.gcp_pubsub
    config:
      project: "${{GCP_PROJECT:-my-project}}"
      topic: {name}""",
        ("GCP_PROJECT=my-project",),
    ),
    "email": SinkPart(
        "mail",
        """\
  - name: out
    type: sink.email
    config:
      host: "${{MAIL_HOST:-127.0.0.1}}"
      # username: {name}
      # password: "${{MAIL_PASSWORD}}"
      from: "{name} <{name}@example.com>"
      to: [team@example.com]
      subject: "{{{{ .type }}}}"
      text: "{{{{ .data | json }}}}\"""",
        ("MAIL_HOST=mail.example.com",),
    ),
    "slack": SinkPart(
        "Slack",
        """\
  - name: out
    type: sink.slack
    config:
      webhook_url: "${{SLACK_WEBHOOK_URL:-https://hooks.slack.com/services/T0/B0/x}}"
      text: "{{{{ .type }}}}: {{{{ .data | json }}}}\"""",
        ("SLACK_WEBHOOK_URL=https://hooks.slack.com/services/…",),
    ),
}
