"""`step.python`: call a function of the user's, per event or per batch."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from connectors.batch import Column
from connectors.errors import PenstockError, PermanentError
from connectors.settings import Path
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Executions
from transforms.steps.idempotent import OnlyIdempotentSettings
from transforms.steps.inputs import input_of, input_path, spread
from transforms.steps.user_code import find_function

_FRAMES = 12
"""Frames of a stack that an error keeps: the innermost ones."""


def _check_function(value: str) -> str:
    module, _, function = value.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        raise ValueError("a function as module:function, such as shapes:to_invoice")
    return value


class PythonSettings(OnlyIdempotentSettings):
    """Configuration of `step.python`."""

    function: Annotated[str, AfterValidator(_check_function)] = Field(
        examples=["shapes:to_invoice"]
    )
    """Function as `module:function`. The module is looked for beside the flow file first, then
    among the installed packages."""
    input_from: Path | None = None
    """What the function is given; default: the trigger's data. Later steps and other pipelines see
    the same value: the function returns a new one and leaves this as it is."""
    batch: bool = False
    """Call the function once with a list of values; it returns a list as long, in that order. An
    exception in that list fails its event alone; one that is raised fails all of them."""
    effect: bool = False
    """Whether the function changes something outside; a dry run leaves it out then."""


class PythonStep:
    """Outputs what the function returns; what it raises is that event's `python_error`.

    A PenstockError that the function raises itself (`connectors.errors`) is taken as it is.
    """

    has_output = True

    def __init__(self, settings: PythonSettings, env: StepEnvironment) -> None:
        """Import the function. Raises FlowFileError when it is not there."""
        self._name = settings.function
        self._batch = settings.batch
        self._path = input_path(settings.input_from, env)
        self._function: Callable[[Any], Any] = find_function(settings.function, env.folder)

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return what the function makes of each event's input."""
        values, kept = input_of(self._path, executions, indexes)
        if self._batch:
            outputs = self._call_once(values, executions, kept)
        else:
            outputs = self._call_each(values, executions, kept)
        return spread(outputs, kept, indexes)

    def close(self) -> None:
        """Nothing is held."""

    def _call_each(self, values: Column, executions: Executions, kept: Sequence[int]) -> Column:
        """Call it once per value: what raises fails, and those after it still run."""
        function, left = self._function, iter(values)
        out: Column = []
        append = out.append
        while True:
            try:
                for value in left:
                    append(function(value))
                return out
            except (Exception, SystemExit) as error:  # noqa: BLE001 - becomes the event's failure
                executions.failures[kept[len(out)]] = self._raised(error)
                append(UNSET)

    def _call_once(self, values: Column, executions: Executions, kept: Sequence[int]) -> Column:
        if not values:
            return []
        try:
            # A list of its own: the function may sort or empty it, and the column stays whole.
            outputs = self._function(list(values))
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - becomes the events' failure
            error = self._raised(raised)
        else:
            if isinstance(outputs, (list, tuple)) and len(outputs) == len(values):
                return self._settled(list(outputs), executions, kept)
            error = self._wrong_result(outputs, len(values))
        for index in kept:
            executions.failures[index] = error
        return [UNSET] * len(kept)

    def _settled(self, outputs: Column, executions: Executions, kept: Sequence[int]) -> Column:
        """Return the outputs; an exception among them is the failure of its event."""
        failed = [place for place, output in enumerate(outputs) if isinstance(output, Exception)]
        for place in failed:
            executions.failures[kept[place]] = self._raised(outputs[place], "returned")
            outputs[place] = UNSET
        return outputs

    def _wrong_result(self, outputs: Any, wanted: int) -> PermanentError:
        found = type(outputs).__name__
        if isinstance(outputs, (list, tuple)):
            found = f"{len(outputs)} entries"
        return PermanentError(
            f"{self._name} returned {found} for a batch of {wanted} events.",
            code="python_error",
            hint=f"With `batch: true` it returns a list of {wanted} entries, one per event, in order.",
            function=self._name,
        )

    def _raised(self, error: BaseException, how: str = "raised") -> PenstockError:
        if isinstance(error, PenstockError):
            return error
        # Without the frame that called the function: the stack begins in the user's code.
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        where = traceback.extract_tb(frames)
        at = f"{where[-1].filename}:{where[-1].lineno}" if where else self._name
        kind = type(error).__name__
        stack = "".join(traceback.format_exception(type(error), error, frames, limit=-_FRAMES))
        return PermanentError(
            f"{self._name} {how} {kind}: {error} ({at}).",
            code="python_error",
            hint="Correct the function or the event, then replay it.",
            function=self._name,
            type=kind,
            file=where[-1].filename if where else None,
            line=where[-1].lineno if where else None,
            stack=stack,
        )


PYTHON = StepType(
    "step.python", PythonSettings, "Call a Python function of yours.", make=PythonStep
)
