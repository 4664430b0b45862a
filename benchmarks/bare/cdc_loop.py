"""A slot → Kafka as a plain loop: decode inserts from pgoutput, produce JSON, confirm.

python -m benchmarks.bare.cdc_loop DSN SLOT PUBLICATION BOOTSTRAP TOPIC
"""

from __future__ import annotations

import select
import struct
import sys
import time

import orjson
import psycopg
from confluent_kafka import Producer


def decode(payload: memoryview | bytes, names: list[str]) -> dict[str, str | None]:
    row: dict[str, str | None] = {}
    at = 8
    for name in names:
        kind = payload[at : at + 1]
        if kind == b"t":
            length = int.from_bytes(payload[at + 1 : at + 5], "big")
            row[name] = str(payload[at + 5 : at + 5 + length], "utf-8")
            at += 5 + length
        else:
            row[name] = None
            at += 1
    return row


def main(dsn: str, slot: str, publication: str, bootstrap: str, topic: str) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5}
    )
    connection = psycopg.connect(dsn, autocommit=True, replication="database")
    pg = connection.pgconn
    result = pg.exec_(
        f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', "
        f"publication_names '{publication}')".encode()
    )
    if result.error_message:
        raise SystemExit(result.error_message.decode())
    names: dict[int, list[str]] = {}
    count = pending = 0
    commit = flushed = 0
    xid = stamp = 0
    while True:
        length, data = pg.get_copy_data(1)
        if length == 0:
            if pending:
                producer.flush()
                print(count, flush=True)
                pending = 0
                flushed = commit
                now = int((time.time() - 946684800) * 1e6)
                pg.put_copy_data(struct.pack(">cQQQQB", b"r", flushed, flushed, flushed, now, 0))
                pg.flush()
            select.select([pg.socket], [], [], 1.0)
            pg.consume_input()
            continue
        data = bytes(data)
        if data[0] == 0x77:
            payload = data[25:]
            kind = payload[0]
            if kind == 0x49:
                relation = int.from_bytes(payload[1:5], "big")
                row = decode(payload, names[relation])
                value = {"op": "c", "lsn": commit, "ts": stamp, "xid": xid, "after": row}
                while True:
                    try:
                        producer.produce(topic, orjson.dumps(value), key=row["id"])
                        break
                    except BufferError:
                        producer.poll(0.01)
                count += 1
                pending += 1
                if pending >= 1000:
                    producer.poll(0)
                if count % 10_000 == 0:
                    print(count - len(producer), flush=True)
            elif kind == 0x42:
                commit, stamp, xid = struct.unpack(">QQI", payload[1:21])
            elif kind == 0x52:
                relation = int.from_bytes(payload[1:5], "big")
                rest = payload[5:].split(b"\0", 2)[2]
                columns = int.from_bytes(rest[1:3], "big")
                rest = rest[3:]
                found = []
                for _ in range(columns):
                    name, _, rest = rest[1:].partition(b"\0")
                    found.append(name.decode())
                    rest = rest[8:]
                names[relation] = found


if __name__ == "__main__":
    main(*sys.argv[1:])
