"""A batch run as columns gives, for each of its events, what the event gives alone."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, note, seed, settings

from connectors.batch import Batch
from connectors.errors import PermanentError
from tests.transforms.jq.comparison import same
from tests.transforms.jq.programs import batches
from transforms.executions import Executions
from transforms.expressions import compile_jq
from transforms.jq import compile_program

CASES = int(os.environ.get("JQ_CASES", "300"))
SEED = int(os.environ.get("JQ_SEED", "20261121"))


def executions_of(values):
    size = len(values)
    columns = {
        "data": values,
        "id": [str(number) for number in range(size)],
        "source": ["/shop"] * size,
        "type": ["order"] * size,
        "partition": ["0"] * size,
        "position": ["0"] * size,
    }
    executions = Executions(events=Batch(size, columns, after={}), pipeline="orders")
    executions.outputs["shape"] = [{"of": value} for value in values]
    return executions


def alone(program, context):
    """Return the outputs and the error of one event."""
    try:
        return compile_program(program).outputs(context), None
    except PermanentError as error:
        return [], error


def check(program, values):
    executions = executions_of(values)
    indexes = range(len(values))
    outputs, errors = compile_jq(program).outputs(executions, indexes)
    column, column_errors = compile_jq(program).column(executions, indexes)
    for index in indexes:
        wanted, error = alone(program, executions.context(index))
        note(f"JQ_SEED={SEED} JQ_CASES={CASES}\n  {program}\n  over {values[index]}")
        assert same(outputs[index], wanted)
        assert same(column[index], wanted[0] if wanted else None)
        for found in (errors.get(index), column_errors.get(index)):
            assert (found is None) == (error is None)
            assert error is None or found.code == error.code


@pytest.mark.slow
@seed(SEED)
@settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(batches())
def test_columns_give_what_each_event_gives(batch):
    program, values = batch
    check(f".data | ({program})", values)


@pytest.mark.slow
@seed(SEED)
@settings(
    max_examples=CASES // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(batches())
def test_programs_over_the_whole_context_give_what_each_event_gives(batch):
    program, values = batch
    check(program, values)
    check(f"(.steps.shape.output.of | ({program})), .trigger.data.a?, .a?", values)
