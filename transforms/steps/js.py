"""`step.js`: a JavaScript function of the user's, per event, in a process that can reach nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.errors import FatalError, FlowFileError, PenstockError, PermanentError
from connectors.settings import Duration, Settings, Size
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Executions
from transforms.steps.js_integers import exact, integers_of
from transforms.steps.js_process import SandboxEndedError, SandboxProcess
from transforms.steps.payload import json_text

_FUNCTION = re.compile(r"\bfunction\s+transform\s*\(|\btransform\s*=")


def _check_code(value: str) -> str:
    if not _FUNCTION.search(value):
        raise ValueError("code that defines `function transform(ctx) { … }`")
    from transforms.steps.js_sandbox import check_syntax  # noqa: PLC0415 - loads QuickJS

    wrong = check_syntax(value)
    if wrong is not None:
        raise ValueError(f"JavaScript, but: {wrong}")
    return value


class JsSettings(Settings):
    """Configuration of `step.js`: `code` or `file`."""

    code: Annotated[str, AfterValidator(_check_code)] | None = None
    """Code that defines `function transform(ctx)`; what it returns is the step's output. `ctx` is
    what expressions see: `ctx.data`, `ctx.steps`, `ctx.trigger`, …"""
    file: Annotated[str, MinLen(1)] | None = None
    """File that holds the code, in place of `code`; looked for beside the flow file."""
    timeout: Annotated[Duration, Ge(0.001), Le(3600)] = 5.0
    """How long a call may compute, in time of a processor."""
    memory_limit: Annotated[Size, Ge(1_000_000)] = 64_000_000
    """How much memory a call may take."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.code is None) == (self.file is None):
            raise ValueError("code or file: one of them, where the function is")
        return self


class JsStep:
    """Outputs what `transform(ctx)` returns; what it throws is that event's `js_error`."""

    has_output = True

    def __init__(self, settings: JsSettings, env: StepEnvironment) -> None:
        """Read and compile the code. Raises FlowFileError."""
        self._settings = settings
        code = settings.code if settings.code is not None else _from_file(str(settings.file), env)
        self._sandbox = SandboxProcess(code, settings.timeout, settings.memory_limit)

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Call the function for each event, one after another."""
        outputs: Column = []
        for index in indexes:
            output: Any = UNSET
            try:
                output = self._call(executions, index)
            except PenstockError as error:
                executions.failures[index] = error
                if isinstance(error, FatalError):
                    outputs += [UNSET] * (len(indexes) - len(outputs))
                    return outputs
            outputs.append(output)
        return outputs

    def _call(self, executions: Executions, index: int) -> Any:
        given = _given(executions, index)
        try:
            text = json_text(given)
        except (TypeError, ValueError, RecursionError) as error:
            raise PermanentError(
                f"the event can't be given to JavaScript: it is not JSON ({error}).",
                code="js_input",
                hint="Correct the step that makes it.",
            ) from None
        try:
            answer = self._sandbox.ask(text, integers_of(given, text))
        except SandboxEndedError as error:
            if error.hung:
                raise self._overran() from None
            raise PermanentError(
                f"the JavaScript engine crashed (status {error.status}).",
                code="js_crashed",
                hint="The other events go on with a new one. Simplify what the function does here.",
            ) from None
        if answer[:1] == b"=":
            return exact(answer[1:])
        raise self._told(orjson.loads(answer[1:]))

    def _told(self, told: dict[str, Any]) -> PermanentError:
        match told["kind"]:
            case "timeout":
                return self._overran(told["line"])
            case "memory":
                return PermanentError(
                    "the JavaScript function needed more memory than its "
                    f"{self._settings.memory_limit:,} bytes.",
                    code="js_memory",
                    hint="Raise `memory_limit` if such events are to be expected.",
                    line=told["line"],
                )
        at = f" (line {told['line']})" if told["line"] else ""
        return PermanentError(
            f"the JavaScript function failed: {told['message'].rstrip('.')}{at}.",
            code="js_error",
            hint="Correct the code or the event, then replay it.",
            line=told["line"],
            stack=told["stack"],
        )

    def _overran(self, line: int | None = None) -> PermanentError:
        return PermanentError(
            f"the JavaScript function computed for longer than {self._settings.timeout:g}s.",
            code="js_timeout",
            hint="Raise `timeout` if such events are to be expected.",
            line=line,
        )

    def close(self) -> None:
        """End the process."""
        self._sandbox.close()


def _given(executions: Executions, index: int) -> dict[str, Any]:
    """Return what the context is made of; the sandbox puts it together, so data goes there once."""
    event = executions.events.event(index)
    change = event.change
    return {
        "attributes": event.attributes(),
        "data": event.data,
        "change": {}
        if change is None
        else {"before": change.before, "after": change.after, "operation": change.operation},
        "scope": {name: column[index] for name, column in executions.scope.items()},
        "steps": executions.steps_view(index),
        "meta": executions.base_meta,
    }


def _from_file(name: str, env: StepEnvironment) -> str:
    path = env.folder / name
    try:
        return _check_code(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FlowFileError(
            f"step {env.place} can't read {path}: {error}.",
            code="js_file",
            hint="`file` is looked for in the flow file's folder.",
        ) from None
    except ValueError as error:
        raise FlowFileError(
            f"step {env.place}: {path} is expected to hold {error}.",
            code="js_code",
            hint="Correct the file.",
        ) from None


JS = StepType("step.js", JsSettings, "Compute a value with JavaScript.", make=JsStep)
