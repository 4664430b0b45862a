"""What a run shows: the live table on a terminal, log lines elsewhere."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from connectors.contracts import Lag
from flows.runtime.logs import set_up_logging
from flows.runtime.reports import ErrorReport, Failure, PipelineCounts, Report
from flows.runtime.supervisor import WorkerView
from penstock.cli.amounts import show_age, show_lag, show_size
from penstock.cli.progress import Progress
from penstock.cli.watching import LiveWatcher, LogWatcher

PIPELINES = {"orders": ["enrich", "audit"], "clicks": ["count"]}
FAILURE = Failure("0199f2a1-aaaa", "enrich", "customer", "http_status", "answered 404.")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def worker(source, index=0, *, state="running", status="", lags=None, parked=None, **counts):
    view = WorkerView(source, index, 1)
    view.report = Report(
        state,
        status=status,
        pipelines={name: PipelineCounts(*numbers) for name, numbers in counts.items()},
        lags=lags or {},
        parked=parked or {},
    )
    return view


def test_there_is_a_line_per_pipeline_before_any_worker_reports():
    lines = Progress(PIPELINES, 5.0).lines([WorkerView("orders", 0, 1)], 0.0)
    assert [(line.source, line.pipeline) for line in lines] == [
        ("orders", "enrich"),
        ("orders", "audit"),
        ("clicks", "count"),
    ]
    assert [line.state for line in lines] == ["starting", "starting", ""]


def test_workers_of_one_source_are_added_up():
    lines = Progress(PIPELINES, 5.0).lines(
        [
            worker("clicks", 0, count=(10, 8, 1, 0), lags={"0": Lag(events=5, seconds=2.0)}),
            worker(
                "clicks",
                1,
                count=(5, 5, 0, 0),
                lags={"1": Lag(events=7, seconds=9.0)},
                parked={"count": 1},
            ),
        ],
        0.0,
    )
    line = lines[2]
    assert line.counts == PipelineCounts(15, 13, 1, 0)
    assert line.parked == 1
    assert line.lag == Lag(events=12, seconds=9.0)
    assert line.state == "running"


def test_what_a_worker_waits_for_is_its_state_and_restarts_are_told():
    waiting = worker("clicks", status="publish: no Kafka broker answered.", count=(1, 1, 0, 0))
    waiting.restarts = 2
    line = Progress(PIPELINES, 5.0).lines([waiting], 0.0)[2]
    assert line.state == "publish: no Kafka broker answered. (restarts: 2)"


def test_counts_go_on_when_a_worker_is_started_again():
    view = worker("clicks", count=(10, 9, 1, 0))
    view.restarted()
    view.report = Report("running", pipelines={"count": PipelineCounts(3, 3, 0, 0)})
    line = Progress(PIPELINES, 5.0).lines([view], 0.0)[2]
    assert line.counts == PipelineCounts(13, 12, 1, 0)


def test_the_rate_is_that_of_the_last_seconds():
    progress = Progress(PIPELINES, 5.0)
    rates = [
        progress.lines([worker("clicks", count=(done, done, 0, 0))], float(at))[2].rate
        for at, done in enumerate([0, 100, 200, 300, 400, 500, 500, 500, 500, 500, 500])
    ]
    assert rates[0] == 0.0
    assert rates[5] == pytest.approx(100.0)
    assert rates[10] == 0.0


def log_lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def log_watcher():
    """Call it in the test itself: pytest gives its fixtures another stderr."""
    set_up_logging("info", "json", lambda text: text)
    clock = Clock()
    return LogWatcher(PIPELINES, "shop.yaml", clock), clock


def test_without_a_terminal_a_log_line_per_pipeline_comes_every_ten_seconds(capsys):
    watcher, clock = log_watcher()
    workers = [
        worker("orders", enrich=(10, 8, 2, 0), audit=(10, 10, 0, 0), lags={"s": Lag(bytes=77)}),
        worker("clicks", count=(0, 0, 0, 0)),
    ]
    with watcher:
        watcher.tick(workers)
        clock.now += 9.9
        watcher.tick(workers)
        assert log_lines(capsys) == []
        clock.now += 0.2
        watcher.tick(workers)
        lines = log_lines(capsys)
        clock.now += 1.0
        watcher.tick(workers)
        assert log_lines(capsys) == []
    assert [line["pipeline"] for line in lines] == ["enrich", "audit", "count"]
    del lines[0]["timestamp"]
    assert lines[0] == {
        "event": "progress",
        "level": "info",
        "pipeline": "enrich",
        "source": "orders",
        "received": 10,
        "done": 8,
        "failed": 2,
        "parked": 0,
        "lag_bytes": 77,
        "rate": 0.0,
        "state": "running",
    }
    summary = log_lines(capsys)
    assert [line["event"] for line in summary] == ["summary"] * 3
    assert summary[0]["seconds"] == 11.1


def test_log_lines_tell_failures_restarts_and_the_drain(capsys):
    watcher, _ = log_watcher()
    watcher.failed(FAILURE)
    watcher.restarting(worker("orders"), -9, 0.4)
    watcher.restarting(worker("orders"), 3, 0.8)
    watcher.stopping("SIGTERM")
    letter, killed, ended, drain = log_lines(capsys)
    assert letter["show"] == "penstock dlq show 0199f2a1-aaaa shop.yaml"
    assert letter["code"] == "http_status"
    assert killed["ended"] == "was killed by signal 9"
    assert ended["ended"] == "ended with exit code 3"
    assert drain["signal"] == "SIGTERM"


@pytest.fixture
def live():
    clock = Clock()
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140, color_system=None)
    return LiveWatcher(PIPELINES, "shop.yaml", clock, console), clock, out


def test_a_terminal_shows_the_table_the_last_failures_and_how_to_look_at_them(live):
    watcher, _, out = live
    with watcher:
        for number in range(7):
            watcher.failed(Failure(f"id-{number}", "enrich", None, "schema_invalid", "no id."))
        watcher.failed(FAILURE)
        watcher.tick(
            [
                worker(
                    "orders",
                    enrich=(1200, 1190, 8, 0),
                    lags={"s": Lag(bytes=1_500_000)},
                    parked={"enrich": 2},
                ),
                worker("clicks", state="standby", status="another worker runs this"),
            ]
        )
        shown = out.getvalue()
    row = next(line for line in shown.splitlines() if line.strip().startswith("enrich"))
    assert row.split() == [
        "enrich",
        "orders",
        "1,200",
        "1,190",
        "8",
        "2",
        "1.5",
        "MB",
        "0.0",
        "running",
    ]
    assert "another worker runs this" in shown
    assert "http_status in enrich/customer: answered 404." in shown
    assert "penstock dlq show 0199f2a1-aaaa shop.yaml" in shown
    assert "id-6" in shown
    assert "id-0" not in shown
    assert "Ctrl-C drains" in shown


def test_a_terminal_keeps_log_lines_above_the_table_and_ends_with_a_summary(live):
    watcher, clock, out = live
    with watcher:
        watcher.log_line(b"[info] worker started [source=orders] [bold]not markup")
        watcher.log_line(b"\xff is no UTF-8")
        watcher.tick([worker("orders", enrich=(10, 8, 2, 0))])
        clock.now += 2.5
        watcher.stopping("SIGINT")
    shown = out.getvalue()
    assert "[info] worker started [source=orders] [bold]not markup" in shown
    assert "draining" in shown
    assert (
        "8 done, 2 failed in 2.5 s. Look at the failed ones: penstock dlq list shop.yaml" in shown
    )


def test_what_an_event_holds_can_not_steer_the_terminal(live):
    watcher, _, out = live
    with watcher:
        watcher.failed(Failure("id", "enrich", None, "odd", "name is \x1b]0;owned\x07\n\x1b[2J."))
        watcher.tick([worker("orders", enrich=(1, 0, 1, 0))])
        shown = out.getvalue()
    assert "owned" in shown
    assert "\x1b]0;owned" not in shown
    assert "\x1b[2J." not in shown


def test_the_error_that_ended_the_run_is_kept_for_the_end(live):
    watcher, _, _ = live
    error = ErrorReport("slot_missing", "the slot is gone.", "Make it.", unreachable=False)
    watcher.error(error)
    assert watcher.ended_by is error


def test_the_terminal_is_given_back_when_the_run_breaks(live):
    watcher, _, _ = live
    before = sys.stderr
    with pytest.raises(ZeroDivisionError), watcher:
        raise ZeroDivisionError
    assert sys.stderr is before


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show_size(999), "999 B"),
        (show_size(1500), "1.5 kB"),
        (show_size(250_000_000), "250 MB"),
        (show_size(7 * 10**15), "7000 TB"),
        (show_age(3.4), "3 s"),
        (show_age(600), "10 min"),
        (show_age(7200), "2 h"),
        (show_age(864000), "10 d"),
        (show_age(-1), "0 s"),
        (show_lag(Lag()), "-"),
        (show_lag(Lag(events=0, seconds=50.0)), "0"),
        (show_lag(Lag(events=1234, bytes=9)), "1,234"),
        (show_lag(Lag(bytes=0)), "0 B"),
        (show_lag(Lag(seconds=61.0)), "61 s"),
    ],
)
def test_amounts_are_short(shown, expected):
    assert shown == expected
