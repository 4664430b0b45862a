"""A `reduce` changes its state in place where nobody can see it, and nowhere else."""

from __future__ import annotations

import json

import pytest

from tests.transforms.jq.oracle import Oracle
from transforms.jq import compile_program
from transforms.jq.json_text import to_json

VALUE = {"a": [1, 2, 3], "k": {"n": 1, "deep": {"m": []}}}
PROGRAMS = [
    "reduce .a[] as $x ({}; .[$x | tostring] = .)",
    "reduce .a[] as $x ({}; .x = [., $x])",
    "reduce .a[] as $x ({}; .x = {y: .})",
    "reduce .a[] as $x ([0]; . + .)",
    "reduce .a[] as $x ([0]; . + [.])",
    "reduce .a[] as $x ({n: 0}; . + {m: .})",
    "reduce .a[] as $x ([]; .[length] = .)",
    "reduce .a[] as $x ([]; .[$x] = $x)",
    "reduce .a[] as $x ([9, 8]; .[-1] += $x)",
    ". as $all | (reduce (1, 2) as $x ($all; .a = $x)), $all",
    ". as $all | (reduce (1, 2) as $x ($all; . + {a: $x})), $all",
    ".a as $list | (reduce (1, 2) as $x ($list; . + [$x])), $list, .",
    "(reduce (1, 2) as $x (.k; .n += $x)), .k",
    "(reduce (1, 2) as $x (.; .k.n += $x)), .",
    "(reduce (1, 2) as $x (.; .k.deep.m += [$x])), .k.deep",
    "[foreach .a[] as $x ([]; . + [$x])]",
    "[foreach .a[] as $x ({}; .[$x | tostring] = $x)]",
    "[.a[] | reduce (1, 2) as $x ({n: 0}; .n += $x)]",
    "[.a[] as $y | reduce (1, 2) as $x ([]; . + [$x * $y])]",
    "reduce .a[] as $x ({}; .in = reduce (1, 2) as $y (.; .[$y | tostring] = $x))",
    "reduce .a[] as $x ({}; reduce (1, 2) as $y (.; .[$y | tostring] = $x))",
    "reduce .a[] as $x ([]; (. + [$x]) as $more | if length > 1 then . else $more end)",
    "reduce .a[] as $x ({o: 1}; (.x = $x | .y) as $none | .)",
    "reduce .a[] as $x ({}; .[(.q = 1 | .q | tostring)] = length)",
    "reduce .a[] as $x ({}; (.p, .q) = $x)",
    "reduce .a[] as $x ({p: 1}; .p |= ({r: .}))",
    "reduce .a[] as $x ({}; try (.p = $x | error) catch .)",
    "try (reduce .a[] as $x ({}; .[$x | tostring] = $x | if $x == 2 then error else . end)) catch .",
    "[range(3) as $i | reduce (1, 2) as $x ({}, {z: $i}; .[$x | tostring] = $i)]",
    "def f: reduce .a[] as $x ([]; . + [$x]); [f, f] | .[0][0] = 7",
    "reduce .a[] as $x (null; .[$x | tostring] = 1)",
    'reduce .a[] as $x ("t"; . + "u")',
    "reduce .a[] as $x (1.5; . + $x)",
    "reduce .a[] as $x ({}; .[$x] = 1)",
    "reduce .a[] as $x ([]; . + {})",
    "reduce .a[] as $x ({}; .list += [$x])",
    "reduce .a[] as $x ({}; .list += [.])",
    "reduce .a[] as $x ({list: [0]}; .list += .list)",
    "reduce .a[] as $x ({list: [0]}; .list += [.list])",
    ". as $all | reduce (1, 2) as $x (.; .a += [$x]), $all",
    ".a as $list | [reduce (1, 2) as $x ({l: $list}; .l += [$x]), $list]",
    "[foreach .a[] as $x ({l: []}; .l += [$x])]",
    "reduce .a[] as $x ({o: {}}; .o += {($x | tostring): $x})",
    "reduce .a[] as $x ({}; .[$x % 2 | tostring] += [$x])",
    "reduce .a[] as $x ([[], 5]; .[0] += [$x])",
    "reduce .a[] as $x ([]; .[$x] += {n: $x})",
    'reduce .a[] as $x ({}; .t += "t")',
    "reduce .a[] as $x ({}; .n += $x * 0.5)",
    'reduce .a[] as $x ({n: 1}; .n += "t")',
    "reduce .a[] as $x ({}; .p[$x | tostring] = $x)",
    "reduce .a[] as $x ({}; .p[$x | tostring] = .)",
    "reduce .a[] as $x ({}; .p[$x | tostring] = .p)",
    "reduce .a[] as $x ({p: {q: 1}}; .p.q = [., .p])",
    "reduce .a[] as $x ({p: {q: {}}}; .p.q[$x | tostring] = .p.q)",
    "reduce .a[] as $x ({p: {}}; .p[.p | length | tostring] = $x)",
    "reduce .a[] as $x ({}; .[$x % 2 | tostring].n += $x)",
    "reduce .a[] as $x ({}; .[$x % 2 | tostring].list += [$x])",
    "reduce .a[] as $x ({}; .a.b.c[$x] += {n: $x})",
    "reduce .a[] as $x ([]; .[0][$x] = $x)",
    "reduce .a[] as $x ([[]]; .[0] = .)",
    "reduce .a[] as $x ([[]]; .[-1][0] = $x)",
    "reduce .a[] as $x ([[]]; .[$x][0] = $x)",
    "reduce .a[] as $x ({}; .[$x | tostring] |= [., $x])",
    "reduce .a[] as $x ({p: {n: 1}}; .p.n |= . * 2)",
    "reduce .a[] as $x ({p: {n: 1}}; .p |= {was: .})",
    "reduce .a[] as $x ({}; .p.n //= $x)",
    "reduce .a[] as $x ({p: {n: 9}}; .p.n -= $x)",
    "reduce .a[] as $x ({p: 5}; .p.n = $x)",
    "reduce .a[] as $x ({p: {}}; .p[$x] = 1)",
    "reduce .a[] as $x ({p: {n: 1}}; .p.n |= empty)",
    "reduce .a[] as $x ({p: {n: 1}}; .p.n |= ($x, 2))",
    ". as $all | reduce (1, 2) as $x ({}; .p[$x | tostring] = $all), $all",
    ". as $all | reduce (1, 2) as $x ({}; .p |= $all.k | .p.n += $x), $all",
    ". as $all | [reduce (1, 2) as $x ({}; .p |= $all.k), reduce (3, 4) as $x ({}; .p |= $all.k)]",
    "[.a[] as $y | reduce (1, 2) as $x ({p: {}}; .p[$x | tostring] = $y)]",
    ".k as $k | [reduce (1, 2) as $x ({k: $k}; .k.deep.m += [$x]), $k]",
    "reduce .a[] as $x ({p: {}}; reduce (1, 2) as $y (.; .p[$y | tostring] += $x))",
    "try (reduce .a[] as $x ({p: {n: {}}}; .p.n[$x] = 1)) catch .",
    "reduce .a[] as $x ({p: {n: 1}}; try (.p.n[0] = $x) catch .)",
]


@pytest.fixture(scope="module")
def oracle():
    with Oracle() as asked:
        yield asked


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_reduce_gives_what_libjq_gives(program, oracle):
    wanted = oracle.ask(program, json.dumps(VALUE))
    caught = compile_program(f"[try ({program}) catch {{failed: .}}]")
    before = json.dumps(VALUE)
    for _ in range(2):  # a constant that was changed would show
        found = caught.outputs(VALUE)[0]
        outputs = [to_json(json.loads(one)) for one in wanted.outputs]
        if wanted.error is not None:
            outputs.append(to_json({"failed": json.loads(wanted.error)}))
        assert [to_json(one) for one in found] == outputs
        assert json.dumps(VALUE) == before


@pytest.mark.parametrize(
    "update",
    [
        ".[$x | tostring] = $x",
        ".[$x | tostring] += 1",
        ". + {($x | tostring): $x}",
        ".list += [$x]",
        ".p[$x | tostring] = $x",
        ".[$x | tostring].n += 1",
        ".p.list += [$x]",
        ".p.q[$x | tostring] |= $x",
    ],
)
def test_a_reduce_over_much_is_within_the_limit_of_time(update):
    program = compile_program(f"reduce .[] as $x ({{}}; {update}) | [.. | scalars] | length")
    assert program.outputs(list(range(60_000))) == [60_000]
