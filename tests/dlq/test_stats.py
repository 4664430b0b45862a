"""Statistics of dead letters: counted exactly, over time, the likeliest cause first."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dlq.render_stats import bars, print_statistics
from dlq.selection import Selection
from dlq.stats import document, edges_of, statistics_of, statistics_where, trend_of
from flows.state.letter_filter import LetterFilter
from flows.state.store import open_store
from tests.flows.state.samples import commit, letter, settlement

NOW = 1_000_000.0
HOUR = 3600.0


@pytest.fixture
def store(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/state.db")
    yield store
    store.close()


def _fill(store, groups, flow="shop"):
    """`groups`: (error code, step, hours ago of each failure)."""
    letters = [
        letter(
            100_000 * place + number,
            flow=flow,
            error_code=code,
            step=step,
            error_message=f"{code} of {number}.",
            last_failed_at=NOW - hours * HOUR - 1,
        )
        for place, (code, step, ago) in enumerate(groups)
        for number, hours in enumerate(ago)
    ]
    lease = store.acquire_lease(flow, "orders/0", "me", 60.0)
    commit(store, lease, [settlement(letters=letters)])


def _codes(statistics):
    return [group.error_code for group in statistics.groups]


def test_every_dead_letter_is_in_one_bar_of_one_group(store):
    _fill(store, [("a", "x", range(24)), ("a", None, [1, 1, 1]), ("b", "x", [0, 20])])
    found = statistics_of(store, LetterFilter(flow="shop"), now=NOW)
    assert found.total == 29
    assert {(g.error_code, g.step): g.count for g in found.groups} == {
        ("a", "x"): 24,
        ("a", None): 3,
        ("b", "x"): 2,
    }


def test_what_began_lately_comes_before_what_there_is_more_of(store):
    _fill(
        store,
        [
            ("always", "x", [h / 4 for h in range(192)]),
            ("over", "x", [40 + h / 100 for h in range(500)]),
            ("new", "x", [h / 20 for h in range(100)]),
        ],
    )
    found = statistics_of(store, LetterFilter(flow="shop"), now=NOW)
    assert _codes(found) == ["new", "always", "over"]
    assert found.likeliest is found.groups[0]
    assert [group.trend for group in found.groups] == ["new", "steady", "quiet"]


def test_a_single_new_failure_is_not_taken_for_the_cause_of_hundreds(store):
    _fill(
        store,
        [("stray", "x", [0]), ("grows", "y", [*range(10, 47), *[h / 80 for h in range(400)]])],
    )
    found = statistics_of(store, LetterFilter(flow="shop"), now=NOW)
    assert _codes(found)[0] == "grows"


def test_where_nothing_is_new_no_cause_is_likelier(store):
    _fill(store, [("always", "x", range(48))])
    assert statistics_of(store, LetterFilter(flow="shop"), now=NOW).likeliest is None


def test_failures_of_a_loops_passes_are_one_group(store):
    _fill(store, [("a", f"lines[{number}].charge", [number]) for number in range(7)])
    (group,) = statistics_of(store, LetterFilter(flow="shop"), now=NOW).groups
    assert (group.step, group.count) == ("lines[].charge", 7)


def test_a_sample_is_the_newest_of_its_group(store):
    _fill(store, [("a", "x", [5, 1, 3])])
    (group,) = statistics_of(store, LetterFilter(flow="shop"), now=NOW).groups
    assert group.sample.error_message == "a of 1."


def test_a_filter_leaves_out_what_it_does_not_ask_for(store):
    _fill(store, [("a", "x", range(10)), ("b", "x", range(10))])
    wanted = LetterFilter(flow="shop", error_code="a", since=NOW - 5 * HOUR)
    found = statistics_of(store, wanted, now=NOW)
    assert (_codes(found), found.total) == (["a"], 5)


def test_all_flows_of_a_store_are_counted_together(store):
    _fill(store, [("a", "x", [1])])
    _fill(store, [("a", "x", [2, 3])], flow="bank")
    found = statistics_of(store, LetterFilter(), now=NOW)
    assert {group.flow: group.count for group in found.groups} == {"shop": 1, "bank": 2}


def test_without_dead_letters_there_are_no_groups(store):
    found = statistics_of(store, LetterFilter(flow="shop"), now=NOW)
    assert (found.total, found.groups, found.likeliest) == (0, (), None)
    assert document(found)["groups"] == []


@pytest.mark.parametrize("span", [0.0, 0.4, 59.0, 3600.0, 86_399.0, 7 * 86_400.0, 9e8])
def test_bars_hold_the_first_and_the_last(span):
    edges = edges_of(NOW - span, NOW, whole=32)
    assert edges[0] <= NOW - span
    assert edges[-1] > NOW
    assert 2 <= len(edges) <= 33


def test_a_trend_is_the_last_quarter_beside_the_rest():
    assert trend_of([5, 5, 5, 0]) == "quiet"
    assert trend_of([0, 0, 0, 1]) == "new"
    assert trend_of([1, 1, 1, 3]) == "growing"
    assert trend_of([1, 1, 1, 2]) == "steady"


def test_any_count_can_be_seen_in_a_bar():
    assert bars((0, 1, 500, 1000)) == " ▁▄█"
    assert bars((0, 0)) == "  "


def _printed(found, **options):
    out = io.StringIO()
    print_statistics(found, Console(file=out, highlight=False, width=110, **options))
    return out.getvalue()


def test_a_terminal_shows_the_likeliest_cause_with_its_hint_first(store):
    _fill(store, [("always", "x", range(48)), ("new", "x", [h / 20 for h in range(100)])])
    shown = _printed(statistics_of(store, LetterFilter(flow="shop"), now=NOW), force_terminal=True)
    assert "Look first at" in shown.splitlines()[0]
    assert "new at x of enrich" in shown
    assert "Look at the body." in shown
    assert "148 dead letters; a bar is" in shown


def test_elsewhere_it_is_lines_of_tabs(store):
    _fill(store, [("a\tb", "x", [1, 2])])
    heading, row = _printed(statistics_of(store, LetterFilter(flow="shop"), now=NOW)).splitlines()
    assert heading.split("\t")[:2] == ["COUNT", "TREND"]
    assert row.split("\t")[0] == "2"
    assert row.split("\t")[4] == "a\\tb"


def test_jq_chooses_what_is_counted(store):
    _fill(store, [("a", "x", range(24)), ("a", "lines[3].y", [1, 1, 1]), ("b", "x", [0, 20])])
    everything = statistics_of(store, LetterFilter(flow="shop"), now=NOW)
    asked = [Selection(LetterFilter(flow="shop"), where) for where in ("true", "false")]
    assert statistics_where(store, asked[0], now=NOW) == everything
    assert statistics_where(store, asked[1], now=NOW).total == 0

    some = Selection(LetterFilter(flow="shop", error_code="a", step="x"), ".data.total > 10")
    (group,) = statistics_where(store, some, now=NOW).groups
    assert (group.error_code, group.step, group.count) == ("a", "x", 24)
    assert group.sample.last_failed_at == NOW - 1


def test_jq_that_is_given_no_more_time_has_counted_the_newest_and_says_so(store, monkeypatch):
    monkeypatch.setattr("dlq.selection.PAGE", 10)
    _fill(store, [("a", "x", range(24))])
    everything = Selection(LetterFilter(flow="shop"), "true")
    found = statistics_where(store, everything, now=NOW, within=0.0)
    assert (found.total, found.complete) == (10, False)
    assert document(found)["complete"] is False
    assert found.groups[0].sample.last_failed_at == max(
        each.last_failed_at for each in store.letters.page(everything.wanted, 100)
    )
    found = statistics_where(store, everything, now=NOW, within=600.0)
    assert (found.total, found.complete) == (24, True)
