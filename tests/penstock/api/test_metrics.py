"""The table of metrics, and what it becomes in Prometheus's text format."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from connectors.contracts import SlotHealth
from flows.runtime.measures import BOUNDS, Histogram, Measures, PipelineMeasures, StepMeter
from flows.runtime.reports import PipelineCounts, Report
from flows.runtime.supervisor import WorkerView
from flows.state.copies import letter_copy
from flows.state.copy_store import RefusedCopy
from penstock.api.live import RATES_OVER, Live
from penstock.api.metrics import TABLE
from tests.flows.archive.archiving import Archived, events
from tests.flows.state.samples import commit, letter, settlement


def worker(**report):
    view = WorkerView("orders", 0, 1, pid=1)
    view.report = Report("running", **report)
    return view


def families(served):
    return {
        family.name: family
        for family in text_string_to_metric_families(served.client.get("/metrics").text)
    }


def test_the_table_is_what_is_exposed_and_nothing_else(served):
    exposed = families(served)
    named = {each.name.removesuffix("_total") for each in TABLE}
    assert set(exposed) == named
    for each in TABLE:
        family = exposed[each.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (each.kind, each.help)
        assert re.fullmatch(r"workflow_[a-z_]+", each.name)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(each.labels)


def test_labels_are_escaped_and_values_exact(served):
    odd = {"out": 'a "quoted" back\\slash\nline'}
    counts = {"enrich": PipelineCounts(2**53, 2**53 - 1, 0, 0)}
    served.live.see([worker(connectors=odd, pipelines=counts)])
    exposed = families(served)
    health = {s.labels["connector"]: s.value for s in exposed["workflow_connector_health"].samples}
    assert health == {"out": 0.0}
    completed = [
        sample.value
        for sample in exposed["workflow_pipeline_executions"].samples
        if sample.labels == {"pipeline": "enrich", "status": "completed"}
    ]
    assert completed == [2**53 - 1]


def test_a_histogram_adds_up_and_ends_with_all(served):
    times = Histogram()
    times.observe(0.0005, 3)
    times.observe(BOUNDS[2], 4)
    times.observe(1000.0)
    measured = Measures({"enrich": PipelineMeasures(durations=times)})
    served.live.see([worker(measures=measured)])
    samples = families(served)["workflow_pipeline_duration_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert (buckets["0.0001"], buckets["0.001"], buckets["300.0"], buckets["+Inf"]) == (0, 7, 7, 8)
    assert [s.value for s in samples if s.name.endswith("_count")] == [8]
    assert [s.value for s in samples if s.name.endswith("_sum")] == [1000.0055]


def test_what_a_worker_measured_before_it_was_started_again_counts_on():
    view = worker(measures=Measures({"enrich": PipelineMeasures(recorded=5)}, 2.0))
    view.restarted()
    view.report = Report("running", measures=Measures({"enrich": PipelineMeasures(3)}, 0.5))
    total = view.measures()
    assert (total.pipelines["enrich"].recorded, total.cpu_seconds) == (8, 2.5)


def test_a_report_comes_out_of_the_pipe_as_it_went_in():
    meter = StepMeter()
    meter.ran(10, failed=2, retried=3, skipped=4, seconds=0.5)
    measured = Measures({"enrich": PipelineMeasures(7, Histogram(), {"charge": meter.measures()})})
    report = Report(
        "running", connectors={"out": "waits"}, active={"enrich": 1}, stalled=1.5, measures=measured
    )
    assert Report.decode(report.encode()) == report
    charge = report.measures.pipelines["enrich"].steps["charge"]
    assert (charge.completed, charge.failed, charge.retries, charge.skipped) == (5, 2, 3, 4)


def test_a_replication_slot_is_told_of_while_its_worker_runs(served):
    health = SlotHealth(
        active=True, wal_status="extended", retained_bytes=2**40, safe_bytes=-(2**20)
    )
    view = worker(slots={"shop": health})
    assert Report.decode(view.report.encode()) == view.report
    served.live.see([view])
    exposed = families(served)
    slot = {"source": "orders", "slot": "shop"}

    def values(name):
        return [
            (each.labels, each.value) for each in exposed[f"workflow_source_slot_{name}"].samples
        ]

    assert values("active") == [(slot, 1.0)]
    assert values("retained_bytes") == [(slot, 2.0**40)]
    assert values("safe_bytes") == [(slot, -(2.0**20))]
    assert values("wal_status") == [
        (slot | {"status": status}, float(status == "extended"))
        for status in ("reserved", "extended", "unreserved", "lost")
    ]
    view.report = Report("running", slots={"shop": SlotHealth(active=False, wal_status="lost")})
    served.live.see([view])
    exposed = families(served)
    assert values("active") == [(slot, 0.0)]
    assert values("retained_bytes") == values("safe_bytes") == []


def test_the_error_rate_is_that_of_the_last_minutes():
    now = [1000.0]
    live = Live(clock=lambda: now[0])

    def see(done, failed):
        live.see([worker(pipelines={"enrich": PipelineCounts(done + failed, done, failed, 0)})])
        return live.error_rates()[0]["enrich"].percent

    see(0, 100)
    now[0] += 10
    assert see(100, 100) == 50.0
    for _ in range(int(RATES_OVER // 5) + 2):
        now[0] += 5
        see(100, 100)
    assert see(200, 100) == 0.0
    assert see(203, 101) == 100 / 104


def test_copies_of_dead_letters_that_wait_and_that_are_refused_are_counted(served, store, lease):
    made = settlement()
    for number in range(3):
        copy = letter_copy(letter(number), None, acting="step.jq", error=None)
        made.copies.append(copy)
    commit(store, lease, [made])
    writer = store.acquire_lease("shop", "orders/dead-letters/dead", "me", 60.0)
    first = store.copies.waiting("shop", ["enrich"])[0].number
    store.copies.settle(writer, [], {first: RefusedCopy("too_large", "too large.")}, "dead", None)
    exposed = families(served)
    found = {
        status: [
            (each.labels, each.value) for each in exposed[f"workflow_dlq_copies_{status}"].samples
        ]
        for status in ("waiting", "refused")
    }
    assert found == {
        "waiting": [({"pipeline": "enrich"}, 2.0)],
        "refused": [({"pipeline": "enrich"}, 1.0)],
    }


def test_what_the_archive_of_a_source_holds_is_measured(served, store, lease):
    archived = Archived(store, lease)
    archived.add(events(1, 2, 3), now=1000.0)
    exposed = families(served)
    found = {
        name: [(each.labels, each.value) for each in exposed[f"workflow_archive_{name}"].samples]
        for name in ("events", "bytes", "oldest_timestamp_seconds")
    }
    (held,) = store.archive.totals("shop")
    of = {"source": "orders"}
    assert found == {
        "events": [(of, 3.0)],
        "bytes": [(of, float(held.bytes))],
        "oldest_timestamp_seconds": [(of, 1000.0)],
    }
