"""`source.file`: the lines of files, each once by file and offset. It is made here; reader.py reads."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from connectors.contracts import Check, Opening, SourceTraits
from connectors.file.columns import Columns
from connectors.file.reader import FileReader
from connectors.file.settings import FileSourceSettings


class FileSource:
    """See `connectors.contracts.Source`."""

    def __init__(self, name: str, settings: FileSourceSettings) -> None:
        self._name = name
        self._settings = settings
        self.traits = SourceTraits(
            ordered=True,
            replayable=True,
            seek_by_time=False,
            partitioned=True,
            bounded=not settings.follow,
            json=settings.format in {"csv", "text"},
        )

    def preflight(self) -> Iterable[Check]:
        """Look for the files, and whether they can be read."""
        path = self._settings.path
        found = [each for each in glob.glob(path, recursive=True) if os.path.isfile(each)]  # noqa: PTH207,PTH113 - a pattern may be absolute
        closed = [each for each in found if not os.access(each, os.R_OK)]
        if closed:
            yield Check(
                "files",
                ok=False,
                found=f"{closed[0]} can't be read",
                hint="Give this user the right to.",
            )
        elif not found:
            yield Check(
                "files",
                ok=False,
                found=f"no file fits {path}",
                hint="Is the pattern right? It is relative to the folder that penstock runs in.",
                severity="warning",
            )
        else:
            yield Check("files", ok=True, found=f"{len(found)} fit {path}")

    def open(self, opening: Opening) -> FileReader:
        """Read each file on from where it was left."""
        settings = self._settings
        key = None
        if settings.key is not None and opening.compile_key is not None:
            key = opening.compile_key(settings.key)
        return FileReader(settings, Columns(self._name, settings, key), opening)
