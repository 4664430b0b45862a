"""What runs as Python gives what jq itself gives: values, and errors where it has errors."""

from __future__ import annotations

import json

import jq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.batch import Batch
from connectors.errors import PermanentError
from transforms.executions import Executions
from transforms.expressions import compile_jq

KEYS = st.sampled_from(["a", "b", "data", "x-y", "env", "not"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, 2**63, -(2**60) - 1, 0.5, -1.5, 1.0, 1e300]),
    st.sampled_from(["", "a", "b", "é", "z", "\U00010000", "\uffff", "1"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
CONTEXTS = st.dictionaries(KEYS, VALUES, max_size=4)


def bracketed(key):
    return f"[{json.dumps(key)}]"


FIELDS = st.sampled_from([".a", ".b", ".data", ".env", ".not"])
ENTRIES = st.one_of(FIELDS, KEYS.map(bracketed), st.sampled_from(["[0]", "[1]", "[-1]", "[-4]"]))
PATHS = st.builds(lambda first, rest: first + "".join(rest), FIELDS, st.lists(ENTRIES, max_size=3))
LITERALS = st.sampled_from(
    ["null", "true", "false", "0", "1", "-1", "1.0", "0.5", "9007199254740993", '"a"', '"é"', '""']
)
TERMS = st.one_of(PATHS, PATHS, LITERALS)


def objects(values):
    keys = st.sampled_from(["a", '"b c"', "env", "and", '"é"'])
    entry = st.one_of(st.builds("{}: {}".format, keys, values), st.sampled_from(["a", "data"]))
    return st.lists(entry, max_size=3).map(lambda entries: "{" + ", ".join(entries) + "}")


def larger(inner):
    operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "and", "or"])
    return st.one_of(
        st.builds("({}) {} ({})".format, inner, operators, inner),
        st.builds("({} | not)".format, inner),
        st.builds("[{}, {}]".format, inner, inner),
        objects(inner.map("({})".format)),
        objects(PATHS),
    )


PROGRAMS = st.one_of(
    PATHS,
    st.recursive(TERMS, larger, max_leaves=6),
    st.builds(
        "{} {} {} and {} or {}".format,
        PATHS,
        st.sampled_from(["==", "<", ">="]),
        TERMS,
        TERMS,
        TERMS,
    ),
)


def by_jq(program, context):
    """Return libjq's outputs, or None where the program fails."""
    compiled = jq.compile(f'try ([{program}] | tojson) catch {{"failed": .}}')
    (found,) = compiled.input_text(json.dumps(context)).all()
    return json.loads(found) if isinstance(found, str) else None


def ours(program, context):
    try:
        return compile_jq(program).run(context)
    except PermanentError as error:
        assert error.code == "jq_error"  # noqa: PT017 - both outcomes are the test's
        return None


def typed(value):
    """Tell true from 1, which Python holds to be equal."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return (isinstance(value, bool), value)


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(program=PROGRAMS, context=CONTEXTS)
def test_native_programs_give_what_libjq_gives(program, context):
    assert typed(ours(program, context)) == typed(by_jq(program, context))


@pytest.mark.parametrize(
    "program",
    [
        ".a",
        ".data.total",
        '.a["x-y"][0]',
        ".a[-1]",
        ".a.b > 0",
        '.a == "x"',
        ".a != null",
        ".a == 1 and .b or (.a | not)",
        "{id: .data.id, of: .steps.customer.output}",
        "{a, data}",
        "[.a, .b]",
    ],
)
def test_simple_programs_run_as_python(program):
    assert compile_jq(program).engine in {"path", "compiled"}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(left=VALUES, right=VALUES, operator=st.sampled_from(["==", "<", "<=", ">"]))
def test_values_of_all_kinds_are_in_jqs_order(left, right, operator):
    program, context = f".a {operator} .b", {"a": left, "b": right}

    assert ours(program, context) == by_jq(program, context)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(program=PROGRAMS, data=st.lists(VALUES, min_size=1, max_size=4), output=VALUES)
def test_a_column_gives_what_each_context_gives(program, data, output):
    size = len(data)
    columns = {
        "data": data,
        "id": [str(number) for number in range(size)],
        "source": ["/shop"] * size,
        "type": ["order"] * size,
        "partition": ["0"] * size,
        "position": ["0"] * size,
    }
    executions = Executions(events=Batch(size, columns, after={}), pipeline="orders")
    executions.outputs["a"] = [output] * size
    for written in (program, program.replace(".a", ".steps.a.output").replace(".b", ".trigger.b")):
        compiled = compile_jq(written)

        values, errors = compiled.column(executions, range(size))

        for index in range(size):
            wanted = ours(written, executions.context(index))
            assert (index in errors) == (wanted is None)
            if wanted is not None:
                assert typed(values[index]) == typed(wanted[0])
