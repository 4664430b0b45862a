"""`step.jq`: make an output with a jq program."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.batch import Column
from connectors.settings import Jq, Path, Settings
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import Executions
from transforms.expressions import compile_jq
from transforms.steps.inputs import settled, step_path


class JqSettings(Settings):
    """Configuration of `step.jq`."""

    expression: Jq
    """Program over the execution's context. Its one output is the step's; several become a list,
    none null."""
    input_from: Path | None = None
    """What the program's `.` is; default: the whole context."""


class JqStep:
    """Outputs what the program makes of each event."""

    has_output = True

    def __init__(self, settings: JqSettings, env: StepEnvironment) -> None:
        program = settings.expression
        if settings.input_from is not None:
            # The line break ends a comment that the program may end with.
            program = f"{as_jq(step_path(settings.input_from, env).parts)} | ({program}\n)"
        self._program = compile_jq(program)

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return one output per event."""
        values, errors = self._program.results(executions, indexes)
        return settled(values, errors, executions, indexes)

    def close(self) -> None:
        """Nothing is held."""


def as_jq(parts: Sequence[str | int]) -> str:
    """Return a dotted path as a jq program."""
    return "." + "".join([f"[{part}]" if isinstance(part, int) else quoted(part) for part in parts])


def quoted(name: str) -> str:
    """Return an access by name, whatever the name holds."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'["{escaped}"]'


JQ = StepType("step.jq", JqSettings, "Make an output with a jq program.", make=JqStep)
