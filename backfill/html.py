"""A job's report as one HTML page: no script, nothing to fetch, to be mailed or kept with a pull request."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backfill.report import KINDS, told_counts

Json = Mapping[str, Any]

_MODES = {"dry_run": "Dry run", "shadow": "Shadow run", "live": "Live backfill"}

_LEGEND = {
    "identical": "as recorded",
    "different": "another output or outcome",
    "missing": "recorded, and not run now",
    "new": "run now, and not recorded",
}

_STYLE = """
:root { color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --ink: #1b2330; --dim: #5b6675; --line: #e2e6ec;
  --identical: #2f9e6e; --different: #d9534f; --missing: #e0912f; --new: #4a7fd6; --was: #fdeceb; --now: #e8f6ef; }
@media (prefers-color-scheme: dark) { :root { --bg: #12161c; --card: #1b212a; --ink: #e6eaf0; --dim: #97a3b3;
  --line: #2c3541; --was: #3a2224; --now: #1c3329; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 2px; } h2 { font-size: 17px; margin: 34px 0 10px; }
.dim { color: var(--dim); } code, pre, .value { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
.verdict { margin: 18px 0 0; padding: 12px 16px; border-radius: 8px; background: var(--card);
  border-left: 5px solid var(--identical); font-size: 16px; }
.verdict.bad { border-color: var(--different); } .verdict.unsure { border-color: var(--missing); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(125px, 1fr)); gap: 10px; margin-top: 16px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
th, td { text-align: left; padding: 7px 12px; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; color: var(--dim); font-weight: 600; font-size: 13px; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { display: flex; height: 10px; border-radius: 5px; overflow: hidden; background: var(--line); min-width: 160px; margin-top: 6px; }
.bar i { display: block; min-width: 3px; }
.identical { background: var(--identical); } .different { background: var(--different); }
.missing { background: var(--missing); } .new { background: var(--new); }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin: 0 5px 0 12px; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 8px; margin: 8px 0; }
summary { padding: 10px 14px; cursor: pointer; display: flex; gap: 12px; align-items: baseline; }
summary .count { font-variant-numeric: tabular-nums; font-weight: 700; min-width: 74px; text-align: right; }
summary .shape { flex: 1; } .badge { font-size: 12px; color: #fff; border-radius: 10px; padding: 1px 9px; }
.sample { border-top: 1px solid var(--line); padding: 10px 14px; }
.sample table { border-radius: 0; margin-top: 6px; table-layout: fixed; } .value { overflow-wrap: anywhere; white-space: pre-wrap; }
td.was { background: var(--was); } td.now { background: var(--now); } col.path { width: 22%; }
footer { margin-top: 40px; font-size: 13px; }
"""


def page(document: Json) -> str:
    """Return the page of what `report_document` has made."""
    job, report = document["backfill"], document["report"]
    title = f"{_MODES[job['mode']]} of {job['pipeline']}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_e(title)} · backfill {job['id']}</title>",
            f"<style>{_STYLE}</style></head><body><main>",
            *_head(title, job),
            *_verdict(job, report),
            *_cards(report),
            *_compared(report["comparison"]),
            *_failures(report["failures"]),
            *_effects(job, report),
            *_foot(job),
            "</main></body></html>\n",
        ]
    )


def _head(title: str, job: Json) -> Iterator[str]:
    yield f"<h1>{_e(title)}</h1>"
    yield (
        f'<div class="dim">flow {_e(job["flow"])} · source {_e(job["source"])} ·'
        f" events from {_e(job['from'])} until before {_e(job['to'])}</div>"
    )
    if job["filter"]:
        yield f'<div class="dim">only <code>{_e(str(job["filter"]))}</code></div>'
    if job["with"]:
        names = ", ".join(path.rpartition("/")[2] for path in job["with"])
        yield f'<div class="dim">the pipeline as {_e(names)} has it</div>'


def _verdict(job: Json, report: Json) -> Iterator[str]:
    compared = report["comparison"]
    kind, text = "", ""
    if job["status"] != "done":
        kind, text = (
            "unsure",
            f"Not at its end: {job['status']}. What follows is what it found so far.",
        )
    elif compared is None:
        failed = report["failed"]
        kind = "bad" if failed else ""
        text = f"{failed:,} of {_ran(report):,} executions failed." if failed else "Nothing failed."
    else:
        counts = compared["executions"]
        total = sum(counts[name] for name in KINDS)
        different = counts["different"] + counts["missing"]
        if different:
            kind = "bad"
            groups = len(compared["groups"])
            text = (
                f"{different:,} of {total:,} executions ({_share(different, total)}) are not as recorded,"
                f" in {groups} {'way' if groups == 1 else 'ways'}."
            )
        elif counts["new"] and not counts["identical"]:
            kind, text = (
                "unsure",
                "Nothing is recorded of these events: there was nothing to compare.",
            )
        else:
            text = f"All {counts['identical']:,} executions that are recorded come out as recorded."
            if counts["new"]:
                text += f" {counts['new']:,} more are not recorded."
    yield f'<div class="verdict {kind}">{_e(text)}</div>'


def _cards(report: Json) -> Iterator[str]:
    yield '<div class="cards">'
    for number, label in told_counts(report):
        yield f'<div class="card"><b>{number:,}</b><span class="dim">{label}</span></div>'
    yield "</div>"


def _compared(compared: Json | None) -> Iterator[str]:
    if compared is None:
        return
    counts = compared["executions"]
    yield "<h2>Compared with what is recorded</h2>"
    yield '<div class="dim">'
    yield "".join(f'<span class="dot {name}"></span>{name}: {_LEGEND[name]}' for name in KINDS)
    yield "</div>"
    yield '<table style="margin-top:10px"><thead><tr><th>Step</th><th></th>'
    yield "".join(f'<th class="n">{name}</th>' for name in KINDS)
    yield "</tr></thead><tbody>"
    yield _row("<b>executions</b>", counts)
    for step in compared["steps"]:
        if any(step[name] for name in KINDS):
            yield _row(f"<code>{_e(step['step'])}</code>", step)
    for step in compared["published"]:
        if any(step[name] for name in KINDS):
            yield _row(f"<code>{_e(step['step'])}</code> publishes", step)
    yield "</tbody></table>"
    if counts["duplicate"]:
        yield (
            f'<p class="dim">{counts["duplicate"]:,} are recorded as duplicates, which did nothing then:'
            " they are not compared.</p>"
        )
    if compared["groups"]:
        yield "<h2>What differs</h2>"
        for number, group in enumerate(compared["groups"]):
            yield from _group(group, is_open=number < 2)
    if compared["ungrouped"]:
        yield f'<p class="dim">{compared["ungrouped"]:,} more, of other kinds.</p>'


def _row(name: str, counts: Json) -> str:
    total = sum(counts[kind] for kind in KINDS)
    bar = "".join(
        f'<i class="{kind}" style="flex:{counts[kind]}" title="{kind}: {counts[kind]:,}"></i>'
        for kind in KINDS
        if counts[kind]
    )
    cells = "".join(f'<td class="n">{counts[kind]:,}</td>' for kind in KINDS)
    return f'<tr><td>{name}</td><td title="{total:,}"><div class="bar">{bar}</div></td>{cells}</tr>'


def _group(group: Json, *, is_open: bool) -> Iterator[str]:
    shape = "<br>".join(f"<code>{_e(line)}</code>" for line in group["shape"])
    if not shape:
        shape = {"new": "ran, and is not recorded", "missing": "is recorded, and did not run"}[
            group["kind"]
        ]
    yield f"<details{' open' if is_open else ''}><summary>"
    yield f'<span class="count">{group["count"]:,}</span>'
    yield f'<span class="badge {group["kind"]}">{group["kind"]}</span>'
    yield f'<span><b>{_e(group["step"])}</b></span><span class="shape">{shape}</span></summary>'
    for sample in group["samples"]:
        yield '<div class="sample">'
        yield f'<span class="dim">{_sample(sample)}</span>'
        if sample.get("message"):
            yield f'<div class="value">{_e(sample["message"])}</div>'
        yield '<table><colgroup><col class="path"><col><col></colgroup>'
        yield "<thead><tr><th>place</th><th>recorded</th><th>now</th></tr></thead><tbody>"
        for change in sample["changes"]:
            yield (
                f'<tr><td class="value">{_e(change["path"])}</td>'
                f'<td class="was value">{_value(change["recorded"])}</td>'
                f'<td class="now value">{_value(change["now"])}</td></tr>'
            )
        yield "</tbody></table></div>"
    yield "</details>"


def _failures(failures: Sequence[Json]) -> Iterator[str]:
    if not failures:
        return
    yield "<h2>What failed</h2>"
    for group in failures:
        yield f'<details><summary><span class="count">{group["count"]:,}</span>'
        yield f"<span><b>{_e(group['step'] or 'before the first step')}</b></span>"
        first = group["samples"][0]["message"] if group["samples"] else ""
        yield f'<span class="shape"><code>{_e(group["code"])}</code> {_e(first)}</span></summary>'
        for sample in group["samples"]:
            yield f'<div class="sample"><span class="dim">{_sample(sample)}</span>'
            yield f'<div class="value">{_e(sample["message"])}</div></div>'
        yield "</details>"


def _effects(job: Json, report: Json) -> Iterator[str]:
    held, answered = report["effects_held_back"], report["answered_from_history"]
    if job["mode"] == "live" or not (held or answered):
        return
    yield "<h2>What did not happen</h2>"
    yield '<p class="dim">Effects are held back; what a step would have answered is taken from history.</p>'
    yield '<table><thead><tr><th>Step</th><th class="n">effects held back</th>'
    yield '<th class="n">answered from history</th></tr></thead><tbody>'
    for step in sorted({*held, *answered}):
        yield f"<tr><td><code>{_e(step)}</code></td>"
        yield f'<td class="n">{held.get(step, 0):,}</td><td class="n">{answered.get(step, 0):,}</td></tr>'
    yield "</tbody></table>"


def _foot(job: Json) -> Iterator[str]:
    took = ""
    if job["events_per_second"]:
        took = f" · {job['events_per_second']:,.0f} events/s"
    yield (
        f'<footer class="dim">backfill {job["id"]} · {_e(job["status"])} · asked for by'
        f" {_e(job['requested_by'])} at {_e(job['created_at'])}{took}</footer>"
    )


def _sample(sample: Json) -> str:
    at = f" at {_e(sample['time'])}" if sample.get("time") else ""
    return f"execution {_e(sample['execution'])} · event {_e(str(sample['event_id']))}{at}"


def _value(text: str | None) -> str:
    return '<span class="dim">nothing</span>' if text is None else _e(text)


def _ran(report: Json) -> int:
    return int(report["done"] + report["failed"] + report["skipped"] + report["reached_effect"])


def _share(part: int, whole: int) -> str:
    percent = 100 * part / whole
    return f"{percent:.1f} %" if percent >= 0.1 else "under 0.1 %"


def _e(text: str) -> str:
    return html.escape(text)
