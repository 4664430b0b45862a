"""A template compiler for sinks' tests: `{{ .name.name }}` and nothing else."""

from __future__ import annotations

import re

from connectors.errors import PermanentError


def compile_template(template):
    def render(context):
        def value(match):
            found = context
            for name in match[1].split("."):
                try:
                    found = found[name]
                except (KeyError, TypeError) as error:
                    raise PermanentError("no such field.", code="template") from error
            return str(found)

        return re.sub(r"\{\{\s*\.([\w.]+)\s*\}\}", value, template)

    return render
