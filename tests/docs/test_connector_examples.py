"""Each connector's example of the reference, run as it is printed: what went in is where it says."""

from __future__ import annotations

import gzip
import io
import json
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
from pyarrow import parquet

from connectors.registry import connector_types
from connectors.schedule.reader import PARTITION, position_of
from penstock.reference.examples import example_of
from tests.connectors.email.postbox import Postbox, listening, secured_by
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import FlowFolder, wait_for
from tests.penstock.api.served import client_of
from tests.services.pubsub import PROJECT
from tests.transforms.steps.answering import Answer, as_json
from tests.transforms.steps.certificates import Authority

AWS_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

ORDERS = [
    {"id": 1, "customer": "ada", "country": "DE", "total": 12.5},
    {"id": 2, "customer": "bob", "country": "FR", "total": 2000},
    {"id": 3, "customer": "ada", "country": "DE", "total": 4000},
]


class Example(FlowFolder):
    """The example of a type as a flow file, in the working folder."""

    def __init__(self, folder: Path, name: str):
        super().__init__(folder)
        self.text = example_of(name)
        self.path = folder / f"{name}.yaml"
        self.path.write_text(self.text)
        self.state_url = f"sqlite:///{folder}/penstock.db"

    def give(self, *rows, to="orders.jsonl"):
        """Write what its file source reads."""
        with (self.folder / to).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def finish(self, **environ: str) -> None:
        """Run it until it has caught up."""
        self.run("--no-server", environ=environ)


SHOWN = set()


def shows(name):
    """Mark the test that runs a type's example."""
    SHOWN.add(name)

    def mark(test):
        return pytest.mark.slow(pytest.mark.parametrize("example", [name], indirect=True)(test))

    return mark


@pytest.fixture
def example(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Example(tmp_path, request.param)
    yield made
    made.end()


def test_the_example_of_every_connector_is_run_here():
    assert set(connector_types()) == SHOWN


# --- sources --------------------------------------------------------------------------------------


@shows("source.aws_sqs")
def test_messages_of_a_queue_are_lines_and_gone_from_it(example, elasticmq):
    url = elasticmq.create_queue()
    elasticmq.send(url, [json.dumps({"job": n}) for n in range(25)])
    example.finish(QUEUE_URL=url, **AWS_KEYS)
    assert sorted(line["job"] for line in example.lines("out/jobs")) == list(range(25))
    assert elasticmq.counts(url) == (0, 0)


@shows("source.file")
def test_rows_of_csv_files_are_lines_each_once(example):
    folder = example.folder / "in"
    folder.mkdir()
    (folder / "may.csv").write_text("id;customer;total\n1;ada;12.5\n2;bob;7\n")
    example.finish()
    (folder / "june.csv.gz").write_bytes(gzip.compress(b"id;customer;total\n3;ada;1\n"))
    example.finish()
    assert example.lines("out/exports") == [
        {"id": "1", "customer": "ada", "total": 12.5},
        {"id": "2", "customer": "bob", "total": 7},
        {"id": "3", "customer": "ada", "total": 1},
    ]


@shows("source.gcp_pubsub")
def test_messages_of_a_subscription_are_lines_and_acknowledged(example, pubsub):
    topic = pubsub.topic()
    pubsub.subscription(topic, "pings-penstock")
    pubsub.publish(topic, [{"data": b'{"ping":%d}' % n} for n in range(20)])
    example.finish(GOOGLE_CLOUD_PROJECT=PROJECT, PUBSUB_EMULATOR_HOST=pubsub.address)
    assert sorted(line["ping"] for line in example.lines("out/pings")) == list(range(20))
    assert all(message["Acks"] for message in pubsub.messages(topic))


@shows("source.http")
def test_what_is_posted_is_a_line_once_however_often_it_comes(example):
    run = example.start("--address", "127.0.0.1:0", environ={"ORDERS_TOKEN": "s3cret"})
    with client_of(run) as client:
        run.wait_until_started()

        def post(number, token="s3cret"):
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"key-{number}"}
            path = "/shops/berlin/orders"
            return client.post(path, json={"id": number}, headers=headers).status_code

        assert [post(number) for number in (1, 2, 2, 3)] == [202] * 4
        assert post(4, token="guessed") == 401
        wait_for(lambda: len(example.lines("out/received")) >= 3, "three orders")
        assert run.stop() == 0, run.text()
    assert [line["id"] for line in example.lines("out/received")] == [1, 2, 3]


@shows("source.kafka")
def test_messages_of_a_topic_are_lines_if_their_pipeline_wants_them(example, kafka):
    topic = kafka.create_topic(2, name="payments")
    write(kafka, topic, *(b'{"amount":%d}' % n for n in range(50)))
    example.finish(KAFKA_BROKERS=kafka.bootstrap)
    found = [line["amount"] for line in example.lines("out/payments")]
    assert sorted(found) == list(range(1, 50))


@shows("source.postgres_cdc")
def test_rows_and_their_changes_are_lines_in_their_order(example, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, status text)")
        connection.execute("CREATE TABLE customers (id int PRIMARY KEY, name text, phone text)")
        connection.execute("INSERT INTO orders VALUES (1, 'placed')")
        connection.execute("INSERT INTO customers VALUES (7, 'Ada', '555')")
        example.finish(DATABASE_URL=database)
        connection.execute("UPDATE orders SET status = 'paid'")
        connection.execute("DELETE FROM orders")
        example.finish(DATABASE_URL=database)
    lines = example.lines("out/changes")
    found = [(line["type"], line["data"]["before"], line["data"]["after"]) for line in lines]
    assert sorted(found[:2]) == [
        ("public.customers.read", None, {"id": 7, "name": "Ada"}),
        ("public.orders.read", None, {"id": 1, "status": "placed"}),
    ]
    assert [(kind, after) for kind, _, after in found[2:]] == [
        ("public.orders.update", {"id": 1, "status": "paid"}),
        ("public.orders.delete", None),
    ]
    assert found[-1][1]["id"] == 1


@shows("source.redis_stream")
def test_entries_of_a_stream_are_lines_and_acknowledged(example, redis_url, valkey):
    with valkey.client() as client:
        for number in range(30):
            client.xadd("clicks", {"data": json.dumps({"n": number}), "visitor": f"v{number % 3}"})
        example.finish(REDIS_SERVER=redis_url)
        assert [line["n"] for line in example.lines("out/clicks")] == list(range(30))
        (group,) = client.xinfo_groups("clicks")
    assert (group["name"], group["pending"], group["lag"]) == ("penstock", 0, 0)


@shows("source.schedule")
def test_the_last_time_of_a_pause_is_a_line(example):
    """The pause: what is stored is that the time of a week ago was the last."""

    def last_time():
        now = datetime.now(ZoneInfo("Europe/Berlin"))
        days = [(now - timedelta(days=back)).replace(hour=7, minute=30) for back in range(5)]
        return next(day for day in days if day <= now and day.weekday() < 5).date().isoformat()

    with example.store() as store:
        lease = store.acquire_lease("mornings", "mornings/0", "before", 60.0)
        week_ago = {PARTITION: position_of(int(time.time()) - 7 * 86400)}
        store.commit(lease, "mornings", [], week_ago, {})
        store.release_lease(lease)
    possible = {last_time()}
    example.finish()
    possible.add(last_time())
    (line,) = example.lines("out/mornings")
    assert line["report"] == "daily"
    assert line["day"] in possible


# --- sinks ----------------------------------------------------------------------------------------


@shows("messaging.kafka")
def test_orders_of_a_topic_are_summed_up_in_another(example, kafka):
    orders = kafka.create_topic(name="orders")
    totals = kafka.create_topic(name="order-totals")
    order = {"id": 7, "customer": "ada", "lines": [{"price": 4.5}, {"price": 12}]}
    write(kafka, orders, json.dumps(order).encode())
    example.finish(KAFKA_BROKERS=kafka.bootstrap)
    (message,) = kafka.read_all(totals, 1)
    assert json.loads(message.value()) == {"id": 7, "total": 16.5}
    assert message.key() == b"ada"
    assert dict(message.headers())["ce_type"] == b"order.summed"


@shows("notification.slack")
def test_large_orders_are_posted_to_an_incoming_webhook(example, receiver):
    receiver.answer = lambda seen: Answer(200, b"ok")
    example.give(*ORDERS)
    example.finish(SLACK_WEBHOOK_URL=f"{receiver.url}/services/T/B/s3cret")
    assert {seen.path for seen in receiver.seen} == {"/services/T/B/s3cret"}
    assert [json.loads(seen.body)["text"] for seen in receiver.seen] == [
        "Order 2 over 2000 EUR",
        "Order 3 over 4000 EUR",
    ]


@shows("sink.aws_sqs")
def test_orders_are_in_a_fifo_queue_in_the_order_of_each_customer(example, elasticmq):
    url = elasticmq.create_queue(fifo=True)
    example.give(*ORDERS)
    example.finish(QUEUE_URL=url, **AWS_KEYS)
    messages = elasticmq.receive_all(url)
    found = [json.loads(message["Body"]) for message in messages]
    assert sorted(found, key=lambda order: order["id"]) == ORDERS
    assert [order["id"] for order in found if order["customer"] == "ada"] == [1, 3]
    groups = [message["Attributes"]["MessageGroupId"] for message in messages]
    assert groups == [order["customer"] for order in found]


@shows("sink.elasticsearch")
def test_products_are_documents_of_their_own_id(example, search):
    products = [
        {"sku": "tea", "price": 4},
        {"sku": "cup", "price": 12},
        {"sku": "tea", "price": 5},
    ]
    example.give(*products, to="products.jsonl")
    example.finish(ELASTICSEARCH_URL=search.url)
    assert search.documents("products") == {"cup": products[1], "tea": products[2]}


@shows("sink.email")
def test_each_order_is_a_mail_sent_after_a_login_over_tls(example):
    authority, postbox = Authority(example.folder), Postbox()
    example.give(
        {"id": 1, "email": "ada@example.com", "name": "Ada"},
        {"id": 2, "email": "bob@example.com", "name": "<Bob>"},
    )
    with listening(postbox, **secured_by(authority, "shop", "s3cret")) as server:
        example.finish(
            SMTP_HOST="127.0.0.1",
            SMTP_PORT=str(server.port),
            SMTP_PASSWORD="s3cret",
            SSL_CERT_FILE=str(authority.ca),  # the system's authorities, for OpenSSL
        )
    assert [(mail["To"], mail["Subject"]) for mail in postbox.mails] == [
        ("ada@example.com", "Your order 1"),
        ("bob@example.com", "Your order 2"),
    ]
    bodies = [
        postbox.mails[1].get_body((kind,)).get_content().strip() for kind in ("plain", "html")
    ]
    assert bodies == ["Thank you, <Bob>.", "<p>Thank you, <b>&lt;Bob&gt;</b>.</p>"]


@shows("sink.file")
def test_each_country_has_its_file(example):
    example.give(*ORDERS)
    example.finish()
    example.give(ORDERS[0])
    example.finish()
    assert example.lines("out/de") == [ORDERS[0], ORDERS[2], ORDERS[0]]
    assert example.lines("out/fr") == [ORDERS[1]]


@shows("sink.gcp_pubsub")
def test_orders_are_messages_of_a_topic_with_their_customer_as_ordering_key(example, pubsub):
    pubsub.subscription(pubsub.topic("orders"))
    example.give(*ORDERS)
    example.finish(GOOGLE_CLOUD_PROJECT=PROJECT, PUBSUB_EMULATOR_HOST=pubsub.address)
    messages = pubsub.messages("orders")
    found = sorted((json.loads(m["Data"]) for m in messages), key=lambda order: order["id"])
    assert found == ORDERS
    assert {m["Attributes"]["ce-type"] for m in messages} == {"order.placed"}
    assert [m["OrderingKey"] for m in messages] == [
        json.loads(m["Data"])["customer"] for m in messages
    ]


@shows("sink.kafka")
def test_customers_are_messages_with_their_id_as_key(example, kafka):
    topic = kafka.create_topic(3, name="customers")
    customers = [{"id": f"c-{number}"} for number in range(40)]
    example.give(*customers, to="customers.jsonl")
    example.finish(KAFKA_BROKERS=kafka.bootstrap)
    messages = kafka.read_all(topic, 40)
    found = {m.key().decode(): json.loads(m.value()) for m in messages}
    assert (len(messages), found) == (40, {customer["id"]: customer for customer in customers})


@shows("sink.postgres")
def test_orders_are_rows_and_a_later_one_replaces_its_row(example, database):
    (create,) = re.findall(r"^#\s+(CREATE TABLE .*;)$", example.text, re.MULTILINE)
    later = {**ORDERS[0], "total": 15}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(create)
        example.give(*ORDERS, later)
        example.finish(DATABASE_URL=database)
        rows = connection.execute("SELECT * FROM orders ORDER BY id").fetchall()
    assert rows == [
        (1, "ada", 1500, later),
        (2, "bob", 200_000, ORDERS[1]),
        (3, "ada", 400_000, ORDERS[2]),
    ]


@shows("sink.redis")
def test_each_country_has_its_stream(example, redis_url, valkey):
    example.give(*ORDERS)
    example.finish(REDIS_SERVER=redis_url)
    with valkey.client() as client:
        found = {
            stream: [json.loads(fields["order"]) for _, fields in client.xrange(stream)]
            for stream in client.keys("orders:*")
        }
    assert found == {"orders:de": [ORDERS[0], ORDERS[2]], "orders:fr": [ORDERS[1]]}


@shows("sink.redis_stream")
def test_orders_are_cloudevents_of_a_stream(example, redis_url, valkey):
    example.give(*ORDERS)
    example.finish(REDIS_SERVER=redis_url)
    with valkey.client() as client:
        found = [json.loads(fields["data"]) for _, fields in client.xrange("orders")]
    assert [(event["type"], event["data"]) for event in found] == [
        ("order.placed", order) for order in ORDERS
    ]


@shows("sink.s3")
def test_each_country_has_its_compressed_object(example, s3, bucket):
    example.give(*ORDERS)
    example.finish(BUCKET=bucket, AWS_ENDPOINT_URL_S3=s3.url, **AWS_KEYS)
    found = {
        key.rpartition("/")[0]: [json.loads(line) for line in gzip.decompress(body).splitlines()]
        for key, body in s3.objects(bucket, "orders/").items()
        if key.endswith(".jsonl.gz")
    }
    assert found == {
        "orders/country=DE": [ORDERS[0], ORDERS[2]],
        "orders/country=FR": [ORDERS[1]],
    }


@shows("sink.slack")
def test_large_orders_are_posted_to_the_channel_of_their_country(example, receiver):
    receiver.answer = lambda seen: as_json({"ok": True})
    example.give(*ORDERS)
    example.finish(SLACK_API_URL=receiver.url, SLACK_TOKEN="xoxb-s3cret")
    posted = [seen for seen in receiver.seen if seen.path == "/chat.postMessage"]
    assert {seen.headers["authorization"] for seen in posted} == {"Bearer xoxb-s3cret"}
    messages = [json.loads(seen.body) for seen in posted]
    assert [(message["channel"], message["text"]) for message in messages] == [
        ("#orders-fr", "Order 2 over 2000 EUR"),
        ("#orders-de", "Order 3 over 4000 EUR"),
    ]
    shown = messages[0]["blocks"][0]["text"]["text"]
    assert shown == "*Order 2* over 2000 EUR :tada:"


@shows("sink.stdout")
def test_large_orders_are_all_that_is_printed(example):
    example.give(*ORDERS)
    done = example.penstock("run", str(example.path), "--no-server")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == ORDERS[1:]


@shows("sink.webhook")
def test_each_order_is_put_to_its_own_url(example, receiver):
    orders = [{"id": "a/1"}, {"id": "a/2"}, {"id": "b"}]
    example.give(*orders)
    example.finish(SERVICE_URL=receiver.url, SERVICE_TOKEN="s3cret")
    found = {(seen.method, seen.path): json.loads(seen.body) for seen in receiver.seen}
    assert len(receiver.seen) == 3
    assert found == {
        ("PUT", "/orders/a%2F1"): orders[0],
        ("PUT", "/orders/a%2F2"): orders[1],
        ("PUT", "/orders/b"): orders[2],
    }
    assert {seen.headers["authorization"] for seen in receiver.seen} == {"Bearer s3cret"}


@shows("storage.s3")
def test_orders_are_rows_of_a_parquet_file(example, s3, bucket):
    example.give(
        {"id": 1, "total": 12.5, "address": {"city": "Berlin"}, "lines": [{"sku": "tea"}]},
        {"id": 2, "total": 7},
    )
    example.finish(BUCKET=bucket, AWS_ENDPOINT_URL_S3=s3.url, **AWS_KEYS)
    (body,) = s3.objects(bucket, "orders/").values()
    rows = parquet.read_table(io.BytesIO(body)).to_pylist()
    assert [(row["id"], float(row["total"]), row["city"]) for row in rows] == [
        (1, 12.5, "Berlin"),
        (2, 7.0, None),
    ]
    assert json.loads(rows[0]["lines"]) == [{"sku": "tea"}]


@shows("webhook.sender")
def test_one_module_sends_to_the_url_of_each_step(example, receiver):
    example.give(*ORDERS)
    example.finish(
        WAREHOUSE_URL=f"{receiver.url}/stock", ACCOUNTING_URL=f"{receiver.url}/large-orders"
    )
    found = {"/stock": [], "/large-orders": []}
    for seen in receiver.seen:
        event = json.loads(seen.body)
        found[seen.path].append(event["data"]["id"])
        assert (event["type"], seen.headers["x-shop"]) == ("order.placed", "berlin")
    assert {path: sorted(ids) for path, ids in found.items()} == {
        "/stock": [1, 2, 3],
        "/large-orders": [2, 3],
    }
