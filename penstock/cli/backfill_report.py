"""Backfills as text for people: the plan, how far one is, what it has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backfill.report import KINDS, told_counts
from penstock.cli.amounts import show_age, show_size
from penstock.cli.output import count, print_table, printable

Json = Mapping[str, Any]

_SHOWN_GROUPS = 20


def print_plan(plan: Json) -> None:
    """Print what would run."""
    events = (
        "an unknown number of events" if plan["events"] is None else count(plan["events"], "event")
    )
    about = "" if plan["exact"] or not plan["events"] else "at most "
    size = "" if plan["bytes"] is None else f", {show_size(plan['bytes'])}"
    print(f"{plan['mode']} of {plan['pipeline']} over {about}{events}{size} of {plan['source']}")
    print(f"  range     {plan['from']} until before {plan['to']}")
    if plan["first"]:
        print(f"  events    from {plan['first']} to {plan['last']}, read from {plan['read_from']}")
    if plan["taken_share"] is not None and plan["taken_share"] < 1:
        print(f"  filter    takes {100 * plan['taken_share']:.1f} % of the first events")
    if plan["seconds_needed"] is not None:
        by = {
            "rate_limit": "by its rate limit",
            "sample": "by the first events, on this machine",
            "nothing": "there is nothing to run",
        }[plan["seconds_by"]]
        more = ""
        if plan["asks_outside"] and plan["seconds_by"] == "sample":
            more = f"; what {', '.join(plan['asks_outside'])} waits for outside comes on top"
        print(f"  time      about {show_age(plan['seconds_needed'])}, {by}{more}")
    for gap in plan["gaps"]:
        print(f"  missing   {gap['from']} to {gap['to']}: {printable(gap['reason'])}")
    for warning in plan["warnings"]:
        print(f"  note      {warning}")


def line(job: Json) -> str:
    """Return how far a job is, in one line."""
    of = "" if job["expected_events"] is None else f" of {job['expected_events']:,}"
    return f"Backfill {job['id']} ({job['mode']} of {job['pipeline']}) is {job['status']}: {job['events']:,}{of} events."


def print_status(job: Json) -> None:
    """Print how far a job is."""
    print(line(job))
    print(f"  range     {job['from']} until before {job['to']}")
    if job["events_per_second"] is not None:
        left = "" if job["seconds_left"] is None else f", {show_age(job['seconds_left'])} left"
        print(f"  rate      {job['events_per_second']:,.0f} events/s{left}")
    print(f"  asked for by {printable(job['requested_by'])} at {job['created_at']}")
    if job["error"] is not None:
        print(f"  {job['error']['code']}: {printable(job['error']['message'])}")


def print_list(jobs: Sequence[Json]) -> None:
    """Print jobs as a table."""
    print_table(
        [">JOB", "STATUS", "MODE", "PIPELINE", "FROM", "TO", ">EVENTS", ">OF"],
        [
            (
                job["id"],
                job["status"],
                job["mode"],
                job["pipeline"],
                job["from"],
                job["to"],
                f"{job['events']:,}",
                "?" if job["expected_events"] is None else f"{job['expected_events']:,}",
            )
            for job in jobs
        ],
    )


def print_report(document: Json) -> None:
    """Print what a job has found."""
    job, report = document["backfill"], document["report"]
    print(line(job))
    for number, label in told_counts(report):
        print(f"  {number:>12,}  {label}")
    for step, times in report["effects_held_back"].items():
        print(f"  {times:>12,}  effects of {step} held back")
    for step, times in report["answered_from_history"].items():
        print(f"  {times:>12,}  answers of {step} from history")
    if report["comparison"] is not None:
        _print_comparison(report["comparison"])
    if report["failures"]:
        print("\nFailures")
        for group in report["failures"]:
            where = group["step"] or "before the first step"
            message = printable(group["samples"][0]["message"]) if group["samples"] else ""
            print(f"  {group['count']:>12,}  {where}: {group['code']}: {message}")


def _print_comparison(compared: Json) -> None:
    print("\nCompared with what is recorded")
    counts = compared["executions"]
    rows = [("executions", *(f"{counts[kind]:,}" for kind in KINDS))]
    rows += [
        (step["step"], *(f"{step[kind]:,}" for kind in KINDS))
        for step in compared["steps"]
        if any(step[kind] for kind in KINDS)
    ]
    rows += [
        (f"{step['step']} publishes", *(f"{step[kind]:,}" for kind in KINDS))
        for step in compared["published"]
        if any(step[kind] for kind in KINDS)
    ]
    print_table(["", *(f">{kind.upper()}" for kind in KINDS)], rows)
    if counts["duplicate"]:
        print(f"{counts['duplicate']:,} are recorded as duplicates: they are not compared.")
    if not compared["groups"]:
        return
    print("\nWhat differs")
    for group in compared["groups"][:_SHOWN_GROUPS]:
        shape = "; ".join(group["shape"]) or group["kind"]
        print(f"  {group['count']:>12,}  {group['step']}: {printable(shape)}")
        for sample in group["samples"][:1]:
            print(
                f"                e.g. {sample['execution']}, event {printable(str(sample['event_id']))}"
            )
            if sample.get("message"):
                print(f"                {printable(sample['message'])}")
            for change in sample["changes"][:4]:
                was = "nothing" if change["recorded"] is None else printable(change["recorded"])
                now = "nothing" if change["now"] is None else printable(change["now"])
                print(f"                {change['path']}: {was}  →  {now}")
    more = len(compared["groups"]) - _SHOWN_GROUPS
    if more > 0:
        print(f"  … and {more} more kinds: --html or --output json shows them")
    if compared["ungrouped"]:
        print(f"  {compared['ungrouped']:>12,}  of other kinds")
