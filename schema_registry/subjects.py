"""The subjects that a flow file declares, and what `name` and `name@version` mean."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.errors import FlowFileError
from schema_registry.validation import Validator


class SubjectVersions:
    """Compiled schemas by subject and version.

    A flow file declares one version of each subject, so `name` alone means that one; `name@version`
    pins it.
    """

    def __init__(self, validators: Iterable[Validator] = ()) -> None:
        self._by_name: dict[str, Validator] = {}
        for validator in validators:
            self._by_name[validator.subject] = validator
            self._by_name[f"{validator.subject}@{validator.version}"] = validator

    def names(self) -> list[str]:
        """Return everything that `validator` resolves, sorted."""
        return sorted(self._by_name)

    def validator(self, reference: str) -> Validator:
        """Return the schema of `name` or `name@version`. Raises FlowFileError `unknown_schema`."""
        try:
            return self._by_name[reference]
        except KeyError:
            raise FlowFileError(
                f"no schema {reference} is declared.",
                code="unknown_schema",
                hint=f"Declared: {', '.join(self.names()) or 'none'}.",
            ) from None
