"""The page of environment variables and of the kinds of values that flow files hold."""

from __future__ import annotations

from penstock.reference.markdown import block, page, table

VARIABLES = {
    "PENSTOCK_STATE_URL": "The state store, instead of the flow file's `state.url`.",
    "PENSTOCK_DEBUG": "`1`: a defect of Penstock shows its traceback.",
    "PENSTOCK_FAIL_POINT": "For crash tests: `name[:nth]` kills a worker there. Never set it in"
    " production.",
    "NO_COLOR": "Set to anything: no colours.",
}
"""Environment variables that Penstock itself reads."""

KINDS = [
    ("duration", "`500ms`, `30s`, `5m`, `1h30m`, `7d`", "A number needs its unit; `0` does not."),
    ("size", "`64MB`, `10GiB`", "`MB` is 10⁶ bytes, `MiB` 2²⁰; a plain number is bytes."),
    ("rate", "`100/s`, `6000/m`", "Events per time."),
    ("jq", '`".data.total > 0"`', "A jq program over the execution's context."),
    (
        "template",
        '`"order-{{ .data.id }}"`',
        (
            "Text in which `{{ … }}` is a jq expression. One that is nothing else keeps the value's"
            " type."
        ),
    ),
    ("path", "`steps.shape.output`", "A dotted path into the execution's context."),
    ("sql", '`"NEW.total > 0"`', "A condition in SQL."),
    ("secret text", '`"${API_TOKEN}"`', "Masked in every log, error and dump."),
]


def settings_page() -> str:
    """Return environment variables and kinds of values."""
    return page(
        "Settings",
        "## Environment variables",
        table(["Variable", "Meaning"], [(f"`{name}`", text) for name, text in VARIABLES.items()]),
        "## Substitution in flow files",
        "Read once, when the file is loaded:",
        table(
            ["Written", "Becomes"],
            [
                ("`${NAME}`", "the environment variable; the flow does not load without it"),
                ("`${NAME:-default}`", "the environment variable, or `default`"),
                ("`${file:/path}`", "what the file holds, without the line end at its end"),
                ("`$${`", "`${`, as text"),
            ],
        ),
        block('connection: "${DATABASE_URL:-postgresql://postgres@127.0.0.1:5432/postgres}"'),
        "## Kinds of values",
        table(["Kind", "Written", "Meaning"], KINDS),
    )
