from __future__ import annotations

import re
import sys

import pytest

from connectors.errors import FlowFileError, PermanentError, RetryableError
from transforms.executions import UNSET


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write `code` as a module beside the flow file; what was imported is forgotten after."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(code, name="users_shapes", folder="flow"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.py").write_text(code)
        return tmp_path / folder

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("users_"):
            del sys.modules[name]


def test_the_function_is_called_with_each_events_data(make, executions, module):
    folder = module("def double(value):\n    return value * 2\n")
    step = make("python", {"function": "users_shapes:double"}, folder=folder)
    assert step.run(executions(1, "a", 3), range(3)) == [2, "aa", 6]
    assert step.run(executions(1, "a", 3), [0, 2]) == [2, 6]


def test_it_may_be_given_something_else(make, executions, module):
    folder = module("def double(value):\n    return value * 2\n")
    config = {"function": "users_shapes:double", "input_from": "steps.one.output.n"}
    step = make("python", config, folder=folder)
    batch = executions("x", "y", outputs={"one": [{"n": 4}, "no object"]})
    assert step.run(batch, range(2)) == [8, UNSET]
    assert batch.failures[1].code == "jq_error"


def test_what_raises_fails_alone_and_no_function_runs_twice_for_one_event(make, executions, module):
    folder = module(
        "calls = []\n"
        "def f(value):\n"
        "    calls.append(value)\n"
        "    if value in (2, 4):\n"
        "        raise ValueError(f'not {value}')\n"
        "    return value\n"
    )
    step = make("python", {"function": "users_shapes:f"}, folder=folder)
    batch = executions(1, 2, 3, 4, 5)
    assert step.run(batch, range(5)) == [1, UNSET, 3, UNSET, 5]
    assert sys.modules["users_shapes"].calls == [1, 2, 3, 4, 5]
    assert set(batch.failures) == {1, 3}
    error = batch.failures[1]
    assert isinstance(error, PermanentError)
    assert error.code == "python_error"
    assert "ValueError: not 2" in error.message
    assert "users_shapes.py:5" in error.message
    assert error.context["line"] == 5
    assert "raise ValueError" in error.context["stack"]
    assert "transforms/steps" not in error.context["stack"]


@pytest.mark.parametrize("raised", ["StopIteration()", "SystemExit(3)", "RecursionError()"])
def test_no_exception_stops_the_events_after_it(make, executions, module, raised):
    folder = module(
        f"def f(value):\n    if value == 1:\n        raise {raised}\n    return value\n"
    )
    step = make("python", {"function": "users_shapes:f"}, folder=folder)
    batch = executions(1, 2, 1, 3)
    assert step.run(batch, range(4)) == [UNSET, 2, UNSET, 3]
    assert {error.code for error in batch.failures.values()} == {"python_error"}


def test_a_function_may_say_that_trying_again_helps(make, executions, module):
    folder = module(
        "from connectors.errors import RetryableError\n"
        "def f(value):\n    raise RetryableError('later.', code='busy')\n"
    )
    batch = executions(1)
    make("python", {"function": "users_shapes:f"}, folder=folder).run(batch, range(1))
    assert isinstance(batch.failures[0], RetryableError)


def test_a_batch_function_is_called_once(make, executions, module):
    folder = module("def f(values):\n    return [sum(values)] * len(values)\n")
    config = {"function": "users_shapes:f", "batch": True}
    step = make("python", config, folder=folder)
    assert step.run(executions(1, 2, 3), range(3)) == [6, 6, 6]
    assert step.run(executions(1, 2, 3), [0, 2]) == [4, 4]


def test_a_batch_function_that_empties_its_list_leaves_the_events_alone(make, executions, module):
    folder = module("def f(values):\n    out = list(values)\n    values.clear()\n    return out\n")
    batch = executions(1, 2)
    step = make("python", {"function": "users_shapes:f", "batch": True}, folder=folder)
    assert step.run(batch, range(2)) == [1, 2]
    assert batch.events.column("data") == [1, 2]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return values[1:]", "returned 1 entries for a batch of 2 events"),
        ("return None", "returned NoneType"),
        ("raise KeyError('x')", "KeyError"),
    ],
)
def test_a_batch_function_that_goes_wrong_fails_all(make, executions, module, body, said):
    folder = module(f"def f(values):\n    {body}\n")
    step = make("python", {"function": "users_shapes:f", "batch": True}, folder=folder)
    batch = executions(1, 2)
    assert step.run(batch, range(2)) == [UNSET, UNSET]
    assert {error.code for error in batch.failures.values()} == {"python_error"}
    assert said in batch.failures[0].message


def test_an_exception_in_a_batch_functions_list_fails_its_event_alone(make, executions, module):
    folder = module(
        "from connectors.errors import RetryableError\n"
        "def f(values):\n"
        "    return [ValueError('no two') if v == 2 else"
        " RetryableError('busy.', code='busy') if v == 3 else v * 10 for v in values]\n"
    )
    step = make("python", {"function": "users_shapes:f", "batch": True}, folder=folder)
    batch = executions(1, 2, 3, 4)
    assert step.run(batch, [0, 1, 2, 3]) == [10, UNSET, UNSET, 40]
    assert list(batch.failures) == [1, 2]
    assert batch.failures[1].message == (
        "users_shapes:f returned ValueError: no two (users_shapes:f)."
    )
    assert isinstance(batch.failures[2], RetryableError)
    batch = executions(2, 1)
    assert step.run(batch, [0]) == [UNSET]
    assert list(batch.failures) == [0]


@pytest.mark.parametrize(
    ("code", "function", "error"),
    [
        ("", "users_nowhere:f", "there is no Python module users_nowhere"),
        ("", "users_shapes:f", "users_shapes has no function f"),
        ("f = 3", "users_shapes:f", "is not a function but of type int"),
        ("async def f(v): return v", "users_shapes:f", "async function"),
        ("def f(): return 1", "users_shapes:f", "takes ()"),
        ("def f(a, b): return a", "users_shapes:f", "takes (a, b)"),
        ("def f(v): yield v", "users_shapes:f", "generator"),
        ("import users_missing", "users_shapes:f", "No module named 'users_missing'"),
        ("\n1 / 0", "users_shapes:f", "ZeroDivisionError"),
        ("def f(:", "users_shapes:f", "users_shapes.py:1"),
        ("raise SystemExit(1)", "users_shapes:f", "SystemExit"),
    ],
)
def test_a_function_that_is_not_there_is_said_when_the_step_is_made(
    make, module, code, function, error
):
    folder = module(code)
    with pytest.raises(FlowFileError, match=re.escape(error)):
        make("python", {"function": function}, folder=folder)


def test_the_module_may_import_what_stands_beside_it(make, executions, module):
    module("RATE = 3\n", name="users_rates")
    folder = module("def f(v):\n    from users_rates import RATE\n    return v * RATE\n")
    step = make("python", {"function": "users_shapes:f"}, folder=folder)
    assert step.run(executions(2), range(1)) == [6]


def test_two_flows_may_each_have_a_module_of_that_name(make, executions, module):
    for number, folder in enumerate(("one", "two")):
        path = module(f"def f(v):\n    return {number}\n", folder=folder)
        step = make("python", {"function": "users_shapes:f"}, folder=path)
        assert step.run(executions("x"), range(1)) == [number]


def test_a_file_that_would_hide_another_module_is_refused(make, module):
    folder = module("def f(v):\n    return v\n", name="json")
    with pytest.raises(FlowFileError, match="Rename the file") as raised:
        make("python", {"function": "json:f"}, folder=folder)
    assert raised.value.code == "python_module_name"


def test_an_installed_package_is_found_too(make, executions, tmp_path):
    step = make("python", {"function": "json:dumps"}, folder=tmp_path)
    assert step.run(executions([1]), range(1)) == ["[1]"]


@pytest.mark.parametrize("name", ["shapes", "shapes:", ":f", "sha pes:f", "shapes:f()"])
def test_what_is_no_function_name_is_refused_when_the_flow_is_loaded(make, name):
    with pytest.raises(ValueError, match="module:function"):
        make("python", {"function": name})
