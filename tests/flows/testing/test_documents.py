"""Where tests are found, which flow they are about, and what is said of a mistake in them."""

from __future__ import annotations

import pytest

from connectors.errors import FlowFileError
from flows.plan import load_flow
from flows.spec.problems import FlowErrors
from flows.testing.documents import find_suites

SET = "- { name: set, type: step.set, config: { values: { a: 1 } } }"
CASE = "tests: [ { name: it, data: 1, expect: { steps: { set: { output: { a: 1 } } } } } ]\n"


def names(suites):
    return [
        ([path.name for path in suite.flow], [cases.file.name for cases in suite.documents])
        for suite in suites
    ]


def problems(project, cases, steps=SET):
    project.write(steps, cases)
    with pytest.raises(FlowErrors) as found:
        project.run()
    return [(p.line, p.column, p.message, p.hint, p.code) for p in found.value.problems]


def test_tests_are_found_beside_the_flow_and_within_it(project):
    project.write(SET, CASE)
    assert names(find_suites([project.flow])) == [(["flow.yaml"], ["flow.test.yaml"])]
    project.flow.write_text(f"{project.flow.read_text()}---\n{CASE.replace('it', 'inside')}")
    assert [result.name for result in project.run()] == ["inside", "it"]
    assert load_flow([project.flow], {}).pipelines  # which leaves its tests alone


def test_a_test_file_alone_is_about_the_flow_it_is_named_after(project):
    project.write(SET, CASE)
    assert names(find_suites([project.tests])) == [(["flow.yaml"], ["flow.test.yaml"])]
    other = project.folder / "other.test.yaml"
    other.write_text(CASE)
    with pytest.raises(FlowFileError, match="does not say which flow it tests"):
        find_suites([other])
    other.write_text(f"flow: flow.yaml\n{CASE}")
    assert [len(project.run(*files)) for files in ([other], [project.tests, other])] == [1, 2]


def test_test_files_that_are_named_run_instead_of_those_beside(project):
    project.write(SET, CASE)
    other = project.folder / "other.yaml"
    other.write_text(CASE.replace("it", "other"))
    assert [result.name for result in project.run(project.flow, other)] == ["other"]


def test_a_flow_without_tests_says_where_to_write_them(project):
    project.write(SET, CASE)
    project.tests.unlink()
    with pytest.raises(FlowFileError) as found:
        find_suites([project.flow])
    assert found.value.code == "tests_missing"
    assert "flow.test.yaml" in found.value.hint


def test_several_files_are_one_flow(project):
    project.write(SET, CASE)
    text = project.flow.read_text()
    at = text.index("pipelines:")
    project.flow.write_text(text[at:])
    modules = project.folder / "modules.yaml"
    modules.write_text(text[:at])
    assert [result.passed for result in project.run(modules, project.flow)] == [True]


def test_values_for_the_flows_variables_stand_in_the_test_file(project):
    steps = '- { name: set, type: step.set, config: { values: { a: "${WHO}" } } }'
    cases = CASE.replace("a: 1", "a: Ada")
    project.write(steps, f"environment: {{ WHO: Ada }}\n{cases}")
    assert [result.passed for result in project.run()] == [True]


def test_nothing_is_substituted_in_a_test_file(project):
    steps = "- { name: set, type: step.set, config: { values: { a: '$${NOT_SET}' } } }"
    project.write(steps, CASE.replace("a: 1", "a: '${NOT_SET}'"))
    assert [result.passed for result in project.run()] == [True]


def test_a_file_of_tests_is_no_flow(project):
    project.write(SET, CASE)
    with pytest.raises(FlowErrors, match="holds tests, and no flow"):
        load_flow([project.tests], {})
    assert load_flow([project.flow, project.tests], {}).pipelines


def test_tests_among_the_keys_of_a_flow_are_an_unknown_key(project):
    project.write(SET, CASE)
    project.flow.write_text(f"{project.flow.read_text()}\n{CASE}")
    with pytest.raises(FlowErrors, match="unknown key tests"):
        load_flow([project.flow], {})


@pytest.mark.parametrize(
    ("cases", "place", "message", "hint"),
    [
        ("tests: []\n", (1, 1), "tests: expected at least one item", ""),
        ("tests:\n  - data: 1\n", (2, 5), "name is missing", "What it shows"),
        ("tests:\n  - name: a\n", (2, 5), "one of data, event and events; found none", ""),
        (
            "tests:\n  - name: a\n    data: 1\n    expct: {}\n",
            (4, 5),
            "unknown key expct",
            "Did you mean expect?",
        ),
        (
            "tests:\n  - name: a\n    data: 1\n    expect: { steps: { st: { ran: true } } }\n",
            (4, 24),
            "there is no step st.",
            "Did you mean set?",
        ),
        (
            "tests:\n  - name: a\n    data: 1\n    mocks: { sett: {} }\n",
            (4, 14),
            "there is no step sett.",
            "Did you mean set?",
        ),
        (
            "mocks: { set: { status: 200 } }\ntests:\n  - { name: a, data: 1 }\n",
            (1, 25),
            "status is what an http_call answers; this is a step.set.",
            "Write `output:`",
        ),
        (
            "tests:\n  - { name: a, data: 1, pipeline: q }\n",
            (2, 35),
            "there is no pipeline q.",
            "Valid here: p.",
        ),
        (
            "tests:\n  - { name: a, data: 1, expect: { outcome: [done, done] } }\n",
            (2, 35),
            "expected one entry per event, 1 in all; found 2.",
            "Without a list",
        ),
        (
            "tests:\n  - { name: a, data: 1, expect: { published: [ { sink: kafk } ] } }\n",
            (2, 56),
            "there is no sink module kafk.",
            "Did you mean kafka?",
        ),
        (
            "tests:\n  - { name: a, data: 1, expect: { dead_letters: [ { step: st } ] } }\n",
            (2, 59),
            "there is no step st.",
            "Did you mean set?",
        ),
        (
            "tests:\n  - { name: a, data: 1, expect: { assert: [env] } }\n",
            (2, 44),
            "env is not allowed",
            "",
        ),
        (
            "tests:\n  - { name: a, data: 1 }\n  - { name: a, data: 2 }\n",
            (3, 13),
            "there is another case of this name, on line 2.",
            "Rename",
        ),
        (
            "tests:\n  - { name: a, data: 1, mocks: { set: { output: 1, error: {} } } }\n",
            (2, 34),
            "one of output, expression and error; found output and error",
            "",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(project, cases, place, message, hint):
    (found,) = problems(project, cases)
    assert found[:2] == place
    assert message in found[2]
    assert hint in found[3]


def test_a_case_says_which_of_several_pipelines_it_is_about(project):
    project.write(SET, CASE)
    more = (
        f"  q:\n    trigger: {{ source: kafka }}\n    steps:\n      {SET.replace('a: 1', 'a: 2')}\n"
    )
    project.flow.write_text(project.flow.read_text() + more)
    with pytest.raises(FlowErrors, match="does not say which pipeline it is about"):
        project.run()
    project.tests.write_text(f"pipeline: p\n{CASE}")
    assert [result.passed for result in project.run()] == [True]
    project.tests.write_text(f"pipeline: p\n{CASE.replace('data: 1', 'data: 1, pipeline: q')}")
    assert [result.passed for result in project.run()] == [False]


def test_all_mistakes_of_all_files_are_said_at_once(project):
    found = problems(project, "x: 1\ntests:\n  - { name: a, data: 1, y: 1 }\n  - { data: 2 }\n")
    assert [one[2] for one in found] == [
        "unknown key x.",
        "unknown key y.",
        "name is missing in this item.",
    ]
