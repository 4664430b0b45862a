"""sink.s3 with Parquet, read back by pyarrow: columns, types, what does not fit, crashes, changed settings."""

from __future__ import annotations

import io
import json
import random
import sys
from datetime import date, datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FlowFileError
from connectors.s3 import SINK_S3
from connectors.testing import SinkConformance
from flows.runtime.sinks import evaluator
from tests.chaos.worker_process import WorkerProcess
from tests.connectors.s3.test_s3_sink import crash, events
from tests.connectors.templates import compile_template
from tests.flows.runtime.running import FlowFolder, pipeline, publish


def tables(s3, bucket, prefix="out/"):
    """Return key → table."""
    found = s3.objects(bucket, prefix)
    return {key: pq.read_table(io.BytesIO(content)) for key, content in found.items()}


def rows(s3, bucket, prefix="out/"):
    return [row for table in tables(s3, bucket, prefix).values() for row in table.to_pylist()]


def of(values, **attributes):
    """Return outgoing events with these data; None has none."""
    shared = {"id": [str(n) for n in range(len(values))], "source": "/s", "type": "t", **attributes}
    texts = [None if value is None else json.dumps(value).encode() for value in values]
    return Outgoing(texts, [None] * len(values), lambda: shared)


@pytest.fixture
def opened(s3, bucket):
    sinks = []

    def open_sink(state=None, **config):
        settings = {"key": "out/events.parquet", "format": "parquet", **config}
        made = SINK_S3.sink("out", SINK_S3.settings.model_validate(s3.config(bucket, **settings)))
        sinks.append(made)
        opening = SinkOpening(state or {}, compile_template=compile_template, compile_jq=evaluator)
        made.open(opening)
        return made

    yield open_sink
    for sink in sinks:
        sink.close()


class ParquetUnderTest:
    def __init__(self, s3, **config):
        self.s3, self.bucket = s3, s3.create_bucket()
        settings = s3.config(self.bucket, key="out/events.parquet", format="parquet", **config)
        self.settings = SINK_S3.settings(**settings)

    def make(self):
        return SINK_S3.sink("out", self.settings)

    def arrived(self):
        return [json.loads(row["data"] or "null") for row in rows(self.s3, self.bucket)]

    def refuse(self, numbers):
        return False


class TestAParquetFilePerBatch(SinkConformance):
    @pytest.fixture
    def subject(self, s3):
        return ParquetUnderTest(s3, roll={"events": 1})


class TestParquetFilesByAge(SinkConformance):
    @pytest.fixture
    def subject(self, s3):
        return ParquetUnderTest(s3, roll={"age": "1s"})


# --- CloudEvents ------------------------------------------------------------------------------


def test_events_are_rows_with_a_column_for_each_attribute(s3, bucket, opened):
    sink = opened(roll={"events": 3})
    sent = of(
        [{"n": 9007199254740993}, None, ["ü"]],
        type=["a", "b", "a"],
        time=["2026-11-22T01:02:03.123456789Z", None, "2026-11-22T02:02:03+01:00"],
        subject=None,
        datacontenttype="application/json",
        partitionkey=["k0", None, "k2"],
        sampled=True,
    )
    assert sink.deliver(sent) == {}
    ((key, table),) = tables(s3, bucket).items()
    assert key.endswith(".parquet")
    assert table.schema.names == [
        *("id", "source", "type", "subject", "time", "datacontenttype", "dataschema"),
        *("extensions", "data"),
    ]
    assert table.schema.field("time").type == pa.timestamp("us", tz="UTC")
    found = table.to_pylist()
    assert [row["data"] for row in found] == ['{"n": 9007199254740993}', None, '["\\u00fc"]']
    assert [row["time"] for row in found] == [
        datetime(2026, 11, 22, 1, 2, 3, 123456, tzinfo=timezone.utc),
        None,
        datetime(2026, 11, 22, 1, 2, 3, tzinfo=timezone.utc),
    ]
    assert [dict(row["extensions"]) for row in found] == [
        {"partitionkey": "k0", "sampled": "true"},
        {"sampled": "true"},
        {"partitionkey": "k2", "sampled": "true"},
    ]
    assert [(row["id"], row["source"], row["type"], row["subject"]) for row in found] == [
        ("0", "/s", "a", None),
        ("1", "/s", "b", None),
        ("2", "/s", "a", None),
    ]


def test_objects_of_one_prefix_have_one_schema_whatever_is_in_the_events(s3, bucket, opened):
    sink = opened(roll={"events": 1})
    for value in ({"n": 1}, {"n": "one", "more": [1]}, None):
        assert sink.deliver(of([value])) == {}
    assert sink.deliver(of([{}], odd="x", subject="s", time="2026-01-01T00:00:00Z")) == {}
    found = [table.schema for table in tables(s3, bucket).values()]
    assert len(found) == 4
    assert all(schema == found[0] for schema in found)


def test_an_event_whose_time_is_none_fails_alone(s3, bucket, opened):
    sink = opened()
    times = ["2026-01-01T00:00:00Z", "yesterday", None]
    (failed,) = sink.deliver(of([1, 2, 3], time=times)).items()
    assert (failed[0], failed[1].code, failed[1].kind) == (1, "parquet_value", "permanent")
    assert "yesterday" in str(failed[1])
    sink.close()
    assert [row["id"] for row in rows(s3, bucket)] == ["0", "2"]


# --- declared columns -------------------------------------------------------------------------

COLUMNS = {
    "id": {"type": "string", "value": ".id", "required": True},
    "order": "int64",
    "total": "decimal(12, 2)",
    "paid": "boolean",
    "weight": "float64",
    "day": "date",
    "at": {"type": "timestamp", "value": ".data.times.at"},
    "items": {"type": "json", "value": ".data.lines"},
    "first": {"type": "string", "value": ".data.lines[0].sku"},
}


def test_declared_columns_have_their_types_and_values(s3, bucket, opened):
    sink = opened(columns=COLUMNS)
    full = {
        "order": 9007199254740993,
        "total": "10.50",
        "paid": True,
        "weight": 1,
        "day": "2026-11-22",
        "times": {"at": "2026-11-22T01:02:03.5"},
        "lines": [{"sku": "a", "n": 2}],
        "unknown": 1,
    }
    assert sink.deliver(of([full, {}, full | {"total": 3, "order": "7", "weight": "0.25"}])) == {}
    sink.close()
    (table,) = tables(s3, bucket).values()
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "id": "string",
        "order": "int64",
        "total": "decimal128(12, 2)",
        "paid": "bool",
        "weight": "double",
        "day": "date32[day]",
        "at": "timestamp[us, tz=UTC]",
        "items": "string",
        "first": "string",
    }
    assert not table.schema.field("id").nullable
    first, empty, other = table.to_pylist()
    assert first == {
        "id": "0",
        "order": 9007199254740993,
        "total": Decimal("10.50"),
        "paid": True,
        "weight": 1.0,
        "day": date(2026, 11, 22),
        "at": datetime(2026, 11, 22, 1, 2, 3, 500000, tzinfo=timezone.utc),
        "items": '[{"sku":"a","n":2}]',
        "first": "a",
    }
    assert empty == dict.fromkeys(COLUMNS) | {"id": "1"}
    assert (other["total"], other["order"], other["weight"]) == (Decimal("3.00"), 7, 0.25)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int64", "seven"),
        ("int64", 1.5),
        ("int64", True),
        ("int64", 2**63),
        ("int32", 2**31),
        ("int64", "1.5"),
        ("int64", "NaN"),
        ("float32", 1e300),
        ("float32", "1e300"),
        ("float64", {}),
        ("float64", 2**53 + 1),
        ("boolean", 1),
        ("string", 5),
        ("decimal(4, 2)", "1.234"),
        ("decimal(4, 2)", 1000),
        ("decimal(4, 2)", "NaN"),
        ("decimal(4, 2)", False),
        ("date", "22.11.2026"),
        ("timestamp", 1763772000),
        ("timestamp", "noon"),
    ],
)
def test_a_value_that_is_not_of_its_columns_type_fails_its_event_alone(
    s3, bucket, opened, kind, value
):
    sink = opened(columns={"n": "int64", "v": kind})
    data = [{"n": 0, "v": None}, {"n": 1, "v": value}, {"n": 2}]
    (failed,) = sink.deliver(of(data)).items()
    assert (failed[0], failed[1].code) == (1, "parquet_value")
    assert "the value of v" in failed[1].message
    sink.close()
    assert [row["n"] for row in rows(s3, bucket)] == [0, 2]


def test_numbers_are_taken_in_every_way_that_loses_nothing(s3, bucket, opened):
    sink = opened(columns={"i": "int32", "f": "float32", "d": "float64", "m": "decimal(20, 3)"})
    data = [
        {"i": 7.0, "f": 0.5, "d": 2**53, "m": 12345678901234567},
        {"i": "-7", "f": "1e3", "d": "Infinity", "m": "1e2"},
        {"i": 2**31 - 1, "f": 3, "d": 0.1, "m": 0.125},
    ]
    assert sink.deliver(of(data)) == {}
    sink.close()
    assert [list(row.values()) for row in rows(s3, bucket)] == [
        [7, 0.5, 2.0**53, Decimal("12345678901234567.000")],
        [-7, 1000.0, float("inf"), Decimal("100.000")],
        [2**31 - 1, 3.0, 0.1, Decimal("0.125")],
    ]


def test_a_required_column_without_value_and_data_that_is_no_object_fail_alone(s3, bucket, opened):
    sink = opened(columns={"n": {"type": "int64", "required": True}})
    failures = sink.deliver(of([{"n": 0}, {}, None, [1], {"n": 4}]))
    assert {place: error.code for place, error in failures.items()} == dict.fromkeys(
        [1, 2, 3], "parquet_value"
    )
    sink.close()
    (table,) = tables(s3, bucket).values()
    assert [row["n"] for row in table.to_pylist()] == [0, 4]
    assert not table.schema.field("n").nullable


def test_times_written_in_several_ways_in_one_batch_are_all_read(s3, bucket, opened):
    sink = opened(columns={"at": "timestamp"})
    texts = ["2026-01-01T01:00:00+01:00", "2026-01-01 00:00:00", "2026-01-01T00:00:00.0000001Z"]
    assert sink.deliver(of([{"at": text} for text in texts])) == {}
    sink.close()
    assert {row["at"] for row in rows(s3, bucket)} == {datetime(2026, 1, 1, tzinfo=timezone.utc)}


@pytest.mark.parametrize("compression", [None, "none", "gzip", "zstd", "snappy"])
def test_columns_are_compressed_within_the_file(s3, bucket, opened, compression):
    more = {} if compression is None else {"compression": compression}
    sink = opened(roll={"events": 1}, **more)
    sink.deliver(of([{"n": "x" * 1000}]))
    ((key, content),) = s3.objects(bucket, "out/").items()
    assert key.endswith(".parquet")
    codec = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(0).compression
    expected = {None: "SNAPPY", "none": "UNCOMPRESSED"}.get(compression, str(compression).upper())
    assert codec == expected


# --- crashes and changes ----------------------------------------------------------------------


def test_crashes_at_random_leave_every_event_in_one_file(s3, bucket, opened):
    chance = random.Random(20261122)
    config = {"key": "out/{{ .type }}.parquet", "roll": {"events": 7}}
    settled, position = {}, 0
    for _ in range(8):
        sink = opened(settled, **config)
        if not settled:
            settled = sink.settled_state()
        at = position
        for _ in range(chance.randrange(6)):
            numbers = range(at, at + chance.randrange(1, 9))
            assert sink.deliver(events(numbers, type=[f"k{n % 3}" for n in numbers])) == {}
            at = numbers.stop
            state = sink.settled_state()
            if chance.random() < 0.7:
                settled, position = state, at
        crash(sink)
    last = opened(settled, **config)
    numbers = range(position, 150)
    last.deliver(events(numbers, type=[f"k{n % 3}" for n in numbers]))
    last.close()
    assert sorted(int(row["id"]) for row in rows(s3, bucket)) == list(range(150))


def test_many_batches_of_one_event_share_a_file_and_little_memory(s3, bucket, opened):
    sink = opened()
    for n in range(300):
        assert sink.deliver(events([n])) == {}
    (one,) = sink._objects.values()
    assert one.size == sum(map(len, one.parts))
    assert one.size < 150_000
    sink.close()
    (table,) = tables(s3, bucket).values()
    assert table["id"].to_pylist() == [str(n) for n in range(300)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"columns": {"n": "int64"}}, {"columns": {"n": "int64", "m": "string"}}),
        ({}, {"columns": {"n": "int64"}}),
        ({"format": "json", "key": "out/events"}, {}),
        ({}, {"format": "json", "key": "out/events"}),
    ],
)
def test_what_was_open_under_other_settings_is_written_as_it_was(s3, bucket, opened, before, after):
    sink = opened(**{"key": "out/events", **before})
    sink.settled_state()
    sink.deliver(of([{"n": n} for n in range(3)]))
    state = sink.settled_state()
    crash(sink)
    second = opened(state, **{"key": "out/events", **after})
    assert len(s3.objects(bucket, "out/")) == 1
    second.deliver(of([{"n": n} for n in range(3, 5)]))
    second.settled_state()
    second.close()
    found = []
    for content in s3.objects(bucket, "out/").values():
        if content.startswith(b"PAR1"):
            read = pq.read_table(io.BytesIO(content)).to_pylist()
            found.append([row["n"] if "n" in row else json.loads(row["data"])["n"] for row in read])
        else:
            found.append([json.loads(line)["n"] for line in content.splitlines()])
    assert found == [[0, 1, 2], [3, 4]]


def test_what_a_lost_writer_left_is_written_as_parquet(s3, bucket, opened):
    sink = opened()
    sink.deliver(events(range(5)))
    state = sink.settled_state()
    sink.deliver(events(range(5, 9)))
    crash(sink)
    SINK_S3.sink("out", sink._settings).undo_unsettled(state)
    assert [row["id"] for row in rows(s3, bucket)] == [str(n) for n in range(5)]


@pytest.mark.chaos
def test_kills_at_named_points_leave_each_event_in_one_file_and_its_misfits_dead(
    tmp_path, s3, bucket
):
    flow = FlowFolder(tmp_path)
    lines = tmp_path / "in.jsonl"
    columns = {"n": {"type": "int64", "required": True}, "name": "string"}
    config = s3.config(
        bucket, key="out/rows.parquet", format="parquet", columns=columns, roll={"events": 150}
    )
    flow.write(
        modules=[
            {"name": "rows", "type": "source.file", "config": {"path": str(lines)}},
            {"name": "out", "type": "sink.s3", "config": config},
        ],
        pipelines={"copy": pipeline("rows", publish("out"))},
    )
    total = 0
    for point in ("after_effects_before_settle", "after_settle_before_checkpoint", ""):
        with lines.open("a") as written:
            for n in range(total, total + 400):
                row = {"n": n if n % 100 else "odd", "name": f"row {n}"}
                written.write(json.dumps(row) + "\n")
        total += 400
        worker = WorkerProcess(flow.path, "rows", fail_point=point, until_caught_up=True)
        assert worker.wait() in {-9, 0}, worker.text()
    found = [row["n"] for row in rows(s3, bucket)]
    assert sorted(found) == [n for n in range(total) if n % 100]
    assert len(flow.letters()) == total // 100


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"columns": {"n": "integer"}}, "one of string"),
        ({"columns": {"n": "decimal(39, 2)"}}, "up to 38 digits"),
        ({"columns": {"n": {"type": "int64", "from": "x"}}}, "from"),
        ({"format": "json", "columns": {"n": "int64"}}, "no columns with format json"),
        ({"format": "json", "compression": "snappy"}, "compression gzip, zstd or none"),
        ({"key": "out/events.jsonl"}, "a key that ends in .parquet"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config, said):
    given = {"bucket": "shop-events", "format": "parquet", **config}
    with pytest.raises(ValidationError, match=said):
        SINK_S3.settings.model_validate(given)


def test_keys_have_the_formats_ending_by_default():
    settings = SINK_S3.settings
    assert settings(bucket="shop-events").object_key == "{{ .type }}/events.jsonl"
    parquet = settings(bucket="shop-events", format="parquet")
    assert parquet.object_key == "{{ .type }}/events.parquet"


def test_without_pyarrow_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FlowFileError) as caught:
        SINK_S3.sink("out", SINK_S3.settings(bucket="shop-events", format="parquet"))
    assert (caught.value.code, caught.value.hint) == (
        "extra_missing",
        "pip install 'penstock[parquet]'",
    )
