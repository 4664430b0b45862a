"""The pages of docs/reference, each made from the code it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.settings import Settings
from flows.spec.model import FlowFile
from flows.testing.model import (
    Case,
    CasesFile,
    DeadLetterExpectation,
    ErrorExpectation,
    EventInput,
    Expectation,
    Mock,
    MockError,
    PublishedExpectation,
    StepExpectation,
)
from penstock.reference.api_page import api_page, metrics_page
from penstock.reference.cli_page import cli_page
from penstock.reference.error_codes import MEANINGS, error_codes
from penstock.reference.examples import example_of
from penstock.reference.fields import FieldText, describe_model
from penstock.reference.markdown import block, code, page, table
from penstock.reference.settings_page import settings_page
from penstock.reference.types import KnownType, all_types


def flow_file_page() -> str:
    """Return the keys of flow files."""
    fields = describe_model(FlowFile)
    parts = [
        (
            "Every key a flow file can have, from the models it is read into. `modules[].config` is"
            " described per type in [connectors](connectors.md), a step's `config` in"
            " [steps](steps.md); what a duration, a size or a template is in [settings](settings.md)."
            " `[]` stands for an item of a list, `NAME` for a name of your choice. Unknown keys are"
            " refused. `penstock schema yaml` prints the same as a JSON Schema for editors."
        )
    ]
    for name in FlowFile.model_fields:
        mine = [one for one in fields if one.name.split(".")[0].removesuffix("[]") == name]
        alone = len(mine) == 1
        parts.append(f"## {name}" if alone else f"## {name}\n\n{mine[0].description}")
        parts.append(_fields_table(mine if alone else mine[1:]))
    return page("Flow files", *parts)


def test_file_page() -> str:
    """Return the keys of test files."""
    return page(
        "Test files",
        "Every key of a test document, which `penstock test` reads: a file named after the flow's"
        " (`shop.yaml`, `shop.test.yaml`), or a document with `tests:` in the flow file. Unknown keys"
        " are refused. `penstock schema tests` prints the same as a JSON Schema for editors."
        " [How to test a flow](../how-to/test-a-flow.md) shows them at work.",
        *(
            f"## {title}\n\n{_fields_table([f for f in describe_model(model) if '.' not in f.name])}"
            for title, model in _TEST_MODELS.items()
        ),
    )


def connectors_page() -> str:
    """Return every source and sink."""
    types = [one for one in all_types() if one.role != "step"]
    return page(
        "Connectors",
        "The `type:` of a module, what its `config:` takes, and a whole flow that shows it. Those"
        " marked *not built yet* can be written and validated; `penstock run` refuses them."
        " `penstock connectors describe TYPE` prints the same.",
        *_overview(types),
        *_sections(types),
    )


def steps_page() -> str:
    """Return every step."""
    types = [one for one in all_types() if one.role == "step"]
    return page(
        "Steps",
        "The `type:` of a step, and what its `config:` takes. `name`, `if`, `skip_if`, `retry`,"
        " `timeout`, `on_error`, `compensate` and `use` are every step's: see"
        " [flow files](flow-file.md). Those marked *not built yet* can be written and validated;"
        " `penstock run` refuses them.",
        *_overview(types),
        *_sections(types),
    )


def errors_page() -> str:
    """Return every error code."""
    return page(
        "Error codes",
        "What stands in brackets in an error, and as `error.code` in a dead letter and in logs."
        " `<…>` is filled in.",
        table(["Kind", "Means"], MEANINGS.items()),
        table(
            ["Code", "Kind", "Messages", "What to do"],
            [
                (
                    f"`{entry.code}`",
                    ", ".join(entry.kinds),
                    "\n".join(entry.messages),
                    "\n".join(entry.hints),
                )
                for entry in error_codes()
            ],
        ),
    )


_NOTES = {"yes": "", "preview": " *Preview.*", "not yet": " *Not built yet.*"}


def _overview(types: Sequence[KnownType]) -> list[str]:
    rows = [
        (
            f"[`{one.name}`](#{one.name.replace('.', '')})",
            one.role,
            f"{one.summary}{_NOTES[one.ready]}",
        )
        for one in types
    ]
    return [table(["Type", "Is a", "What it does"], rows)]


def _sections(types: Sequence[KnownType]) -> list[str]:
    parts = []
    for one in types:
        parts.append(f"## {one.name}\n\n{one.summary}{_NOTES[one.ready]}")
        if one.preview:
            parts.append(f"A preview: {one.preview}.")
        fields = describe_model(one.settings)
        parts.append(_fields_table(fields) if fields else "It has no configuration.")
        example = example_of(one.name)
        if example is not None:
            parts.append(block(example.rstrip("\n"), "yaml"))
    return parts


def _fields_table(fields: Sequence[FieldText]) -> str:
    rows = dict.fromkeys(
        (
            code(one.name),
            one.type,
            "**required**" if one.required else code(one.default),
            one.description,
        )
        for one in fields
    )
    return table(["Key", "Type", "Default", "Meaning"], rows)


_TEST_MODELS: dict[str, type[Settings]] = {
    "A test document": CasesFile,
    "tests[]": Case,
    "event, events[]": EventInput,
    "mocks.NAME": Mock,
    "mocks.NAME.error": MockError,
    "expect": Expectation,
    "expect.steps.NAME": StepExpectation,
    "expect.published[]": PublishedExpectation,
    "expect.dead_letters[]": DeadLetterExpectation,
    "expect.stopped, expect.steps.NAME.error": ErrorExpectation,
}

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "flow-file.md": flow_file_page,
    "test-file.md": test_file_page,
    "connectors.md": connectors_page,
    "steps.md": steps_page,
    "api.md": api_page,
    "metrics.md": metrics_page,
    "errors.md": errors_page,
    "settings.md": settings_page,
}
"""File name → what makes its text."""
