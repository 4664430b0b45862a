"""Servers behind a proxy, and the modules that reach them by it: what stalls in the tests of stops."""

from __future__ import annotations

import json
from contextlib import ExitStack
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg

from tests.connectors.aws_sqs.driving import LOGIN, add
from tests.connectors.email.postbox import Postbox, listening
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import cdc_source, kafka_source, publish, step
from tests.services.pubsub import PROJECT


def through(proxy, url):
    """The same URL, with the proxy's address."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{proxy.address}"))


class Far:
    """A far side behind a proxy: the sink or step that reaches it, and which events have arrived."""

    def __init__(self, proxy, module, steps, arrived, *, waits, once=False):
        self.proxy, self.module, self.steps = proxy, module, steps
        self.arrived, self.waits, self.once = arrived, waits, once


def sink_behind(proxy, kind, config, arrived, *, once=False):
    module = {"name": "far", "type": kind, "config": config}
    waits = {"step": "write", "sink": "far"}
    return Far(proxy, module, [publish("far")], arrived, waits=waits, once=once)


def proxy_of(request, address):
    return request.getfixturevalue("proxies")(address)


def through_redis(request):
    url = request.getfixturevalue("redis_url")
    valkey = request.getfixturevalue("valkey")
    proxy = proxy_of(request, valkey.address)

    def arrived():
        with valkey.client() as client:
            return [json.loads(fields["data"])["n"] for _, fields in client.xrange("out")]

    config = {"url": through(proxy, url), "stream": "out", "format": "json"}
    return sink_behind(proxy, "sink.redis_stream", config, arrived)


def through_postgres(request):
    url = request.getfixturevalue("database")
    postgres = request.getfixturevalue("postgres")
    proxy = proxy_of(request, urlsplit(postgres.dsn()).netloc.rpartition("@")[2])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE arrived (n int)")

    def arrived():
        with psycopg.connect(url) as connection:
            return [n for (n,) in connection.execute("SELECT n FROM arrived")]

    config = {
        "connection": through(proxy, url),
        "table": "arrived",
        "mode": "insert",
        "statement_timeout": "60s",
    }
    return sink_behind(proxy, "sink.postgres", config, arrived, once=True)


def through_webhook(request):
    receiver = request.getfixturevalue("receiver")
    proxy = proxy_of(request, f"127.0.0.1:{receiver.port}")
    config = {"url": f"http://{proxy.address}/", "timeout": "60s"}

    def arrived():
        return [json.loads(seen.body)["n"] for seen in receiver.seen]

    return sink_behind(proxy, "sink.webhook", config, arrived)


def through_http_call(request):
    receiver = request.getfixturevalue("receiver")
    proxy = proxy_of(request, f"127.0.0.1:{receiver.port}")
    config = {
        "url": f"http://{proxy.address}/",
        "method": "POST",
        "timeout": "60s",
        "body_from": "data",
    }

    def arrived():
        return [json.loads(seen.body)["n"] for seen in receiver.seen]

    return Far(proxy, None, [step("call", "http_call", config)], arrived, waits={"step": "call"})


def through_s3(request):
    s3 = request.getfixturevalue("s3")
    proxy, bucket = proxy_of(request, f"127.0.0.1:{s3.port}"), s3.create_bucket()
    endpoint = f"http://{proxy.address}"
    config = s3.config(bucket, key="out/rows.jsonl", format="json", timeout="60s")

    def arrived():
        found = s3.objects(bucket, "out/").values()
        return [json.loads(line)["n"] for text in found for line in text.splitlines()]

    return sink_behind(proxy, "sink.s3", {**config, "endpoint": endpoint}, arrived, once=True)


def through_elasticsearch(request):
    search = request.getfixturevalue("search")
    proxy, index = proxy_of(request, f"127.0.0.1:{search.port}"), search.create_index()
    config = {"urls": [f"http://{proxy.address}"], "index": index, "timeout": "60s"}

    def arrived():
        return [document["n"] for document in search.documents(index).values()]

    # By its id, an event is one document.
    return sink_behind(proxy, "sink.elasticsearch", config, arrived, once=True)


def through_slack(request):
    receiver = request.getfixturevalue("receiver")
    proxy = proxy_of(request, f"127.0.0.1:{receiver.port}")
    config = {
        "token": "x",
        "channel": "#orders",
        "api_url": f"http://{proxy.address}",
        "text": "{{ .data.n }}",
        "timeout": "60s",
    }

    def arrived():
        posted = [seen for seen in receiver.seen if seen.path == "/chat.postMessage"]
        return [int(json.loads(seen.body)["text"]) for seen in posted]

    return sink_behind(proxy, "sink.slack", config, arrived)


def through_email(request):
    postbox, servers = Postbox(), ExitStack()
    request.addfinalizer(servers.close)
    server = servers.enter_context(listening(postbox))
    proxy = proxy_of(request, f"127.0.0.1:{server.port}")
    config = {
        "host": "127.0.0.1",
        "port": proxy.port,
        "security": "none",
        "from": "shop@example.com",
        "to": ["a@example.com"],
        "subject": "{{ .data.n }}",
        "text": "-",
        "timeout": "60s",
    }

    def arrived():
        return [int(mail["Subject"]) for mail in postbox.mails]

    return sink_behind(proxy, "sink.email", config, arrived)


def through_sqs(request):
    elasticmq = request.getfixturevalue("elasticmq")
    proxy, url = proxy_of(request, elasticmq.address), elasticmq.create_queue()
    config = {"queue_url": url, "endpoint": f"http://{proxy.address}", "format": "json", **LOGIN}

    def arrived():
        return [json.loads(message["Body"])["n"] for message in elasticmq.receive_all(url)]

    return sink_behind(proxy, "sink.aws_sqs", config, arrived)


def through_pubsub(request):
    pubsub = request.getfixturevalue("pubsub")
    proxy, topic = proxy_of(request, pubsub.address), pubsub.topic()
    pubsub.subscription(topic)
    config = {"project": PROJECT, "topic": topic, "endpoint": proxy.address, "format": "json"}

    def arrived():
        return [json.loads(message["Data"])["n"] for message in pubsub.messages(topic)]

    return sink_behind(proxy, "sink.gcp_pubsub", config, arrived)


SINKS = [
    through_redis,
    through_postgres,
    through_webhook,
    through_http_call,
    through_s3,
    through_elasticsearch,
    through_slack,
    through_email,
    through_sqs,
    through_pubsub,
]


class Near:
    """A server that a source reads by a proxy: how events come to it, and whether it has any left."""

    def __init__(self, proxy, kind, config, add, left=lambda: 0):
        self.proxy, self.add, self.left = proxy, add, left
        self.module = {"name": "near", "type": kind, "config": config}


def from_redis(request):
    url = request.getfixturevalue("redis_url")
    valkey = request.getfixturevalue("valkey")
    proxy = proxy_of(request, valkey.address)
    config = {"url": through(proxy, url), "streams": ["in"], "group": "shop"}

    def add_entries(numbers):
        with valkey.client() as client:
            for n in numbers:
                client.xadd("in", {"data": json.dumps({"n": n})})

    def left():
        with valkey.client() as client:
            (group,) = client.xinfo_groups("in")
            return group["lag"] + group["pending"]

    return Near(proxy, "source.redis_stream", config, add_entries, left)


def from_kafka(request):
    kafka, proxy = request.getfixturevalue("kafka"), request.getfixturevalue("kafka_proxy")
    topic = kafka.create_topic()
    config = kafka_source(kafka, topic, brokers=kafka.proxied_bootstrap)["config"]

    def add_messages(numbers):
        write(kafka, topic, *[b'{"n":%d}' % n for n in numbers])

    return Near(proxy, "source.kafka", config, add_messages)


def from_postgres(request):
    url = request.getfixturevalue("database")
    postgres = request.getfixturevalue("postgres")
    proxy = proxy_of(request, urlsplit(postgres.dsn()).netloc.rpartition("@")[2])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int PRIMARY KEY)")

    def add_rows(numbers):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO t SELECT unnest(%s::int[])", [list(numbers)])

    config = cdc_source(through(proxy, url), f"stalled_{uuid4().hex[:8]}", "t")["config"]
    return Near(proxy, "source.postgres_cdc", config, add_rows)


def from_sqs(request):
    elasticmq = request.getfixturevalue("elasticmq")
    proxy, url = proxy_of(request, elasticmq.address), elasticmq.create_queue()
    config = {
        "queue_url": url,
        "endpoint": f"http://{proxy.address}",
        "visibility_timeout": "4s",
        **LOGIN,
    }

    def add_messages(numbers):
        add(elasticmq, url, numbers)

    return Near(proxy, "source.aws_sqs", config, add_messages, lambda: sum(elasticmq.counts(url)))


def from_pubsub(request):
    pubsub = request.getfixturevalue("pubsub")
    proxy, topic = proxy_of(request, pubsub.address), pubsub.topic()
    config = {
        "project": PROJECT,
        "subscription": pubsub.subscription(topic),
        "endpoint": proxy.address,
        "ack_deadline": "10s",
    }

    def add_messages(numbers):
        pubsub.publish(topic, [{"data": b'{"n":%d}' % n} for n in numbers])

    def left():
        return sum(not message["Acks"] for message in pubsub.messages(topic))

    return Near(proxy, "source.gcp_pubsub", config, add_messages, left)


SOURCES = [from_redis, from_kafka, from_postgres, from_sqs, from_pubsub]
