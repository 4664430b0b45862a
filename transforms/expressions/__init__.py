"""The one language of flows: jq programs, templates around them, and dotted paths."""

from transforms.expressions.errors import ExpressionError
from transforms.expressions.jq import Program, compile_jq
from transforms.expressions.paths import Path, parse_path
from transforms.expressions.template import Template, ValueTemplate, compile_template, compile_value
from transforms.expressions.views import View

__all__ = [
    "ExpressionError",
    "Path",
    "Program",
    "Template",
    "ValueTemplate",
    "View",
    "compile_jq",
    "compile_template",
    "compile_value",
    "parse_path",
]
