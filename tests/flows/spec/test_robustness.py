"""Whatever stands in a flow file, loading it ends with a plan or with problems that have places."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.plan import FlowErrors, Problem, load_flow

EXAMPLES = Path(__file__).parent / "examples"
LINES = [
    line
    for path in sorted(EXAMPLES.glob("*.yaml"))
    for line in path.read_text(encoding="utf-8").splitlines()
]
KEYS = ["modules", "pipelines", "schemas", "trigger", "steps", "config", "name", "type", "use", "x"]

bounded = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([*KEYS, "step.log", "${", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)


def load(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    lines = text.split("\n")
    problems: tuple[Problem, ...] = ()
    try:
        load_flow([path], {})
    except FlowErrors as refused:
        problems = refused.problems
    for problem in problems:
        assert problem.message
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


@bounded
@given(lines=st.lists(st.sampled_from(LINES), max_size=25))
def test_lines_thrown_together_end_in_problems(tmp_path, lines):
    load(tmp_path / "flow.yaml", "\n".join(lines))


@bounded
@given(tree=st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
def test_values_of_the_wrong_kind_end_in_problems(tmp_path, tree):
    load(tmp_path / "flow.yaml", _flow(tree))


@bounded
@given(text=st.text(alphabet="ab:-[]{}'\"|>&*!%@#$ \n\t", max_size=60))
def test_any_text_ends_in_problems(tmp_path, text):
    load(tmp_path / "flow.yaml", text)


def _flow(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(_flow(inner) for inner in value) + "]"
        case str():
            return f'"{value}"'
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
