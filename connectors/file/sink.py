"""`sink.file`: appends events to files, each once whatever crashes.

The state store keeps the length that each open file had when its last batch was settled; a start
cuts the files back to that, and the source hands over again what was behind it. See journal.py
for files that the settled state does not list.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.file.journal import Entry, Journal, Rotated, Touched, sync_folder
from connectors.file.output import OutputFile
from connectors.file.paths import PathRule
from connectors.file.recovery import SettledState, cut_back, read_state, undo
from connectors.file.settings import FileSinkSettings
from connectors.jsonlines import joined, lines_of

_JOURNAL_ENTRIES = 10_000
"""Beyond so many, those of batches settled long ago are dropped: the journal is rewritten."""

_NOT_YET_DURABLE = 100
"""States that `settled_state` has returned last may still be on their way to the state store: some
batches of each pipeline that shares the sink. What is older is taken as durable."""


class FileSink:
    """The sink; `open` undoes what was not settled before it takes the first event."""

    def __init__(self, name: str, settings: FileSinkSettings) -> None:
        self._name = name
        self._settings = settings
        self.traits = SinkTraits(
            ordered=True,
            delivery="effectively_once",
            embeds=settings.format == "cloudevents_json",
        )
        self._open_files: OrderedDict[str, OutputFile] = OrderedDict()
        self._rule: PathRule
        self._journal: Journal | None = None
        self._journal_limit = _JOURNAL_ENTRIES
        self._settled_batch = 0
        self._dirty = True
        self._state_is_stored = False
        self._state: dict[str, str] = {}

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - a file has none
        """Look whether the folder is there, or can be made, and can be written to."""
        path = self._settings.path
        folder = Path(os.path.abspath(os.path.dirname(path.partition("{{")[0])))  # noqa: PTH100,PTH120
        nearest = folder
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            yield Check(
                "folder", ok=False, found=f"{nearest} is no folder", hint="Choose another path."
            )
        elif not os.access(nearest, os.W_OK | os.X_OK):
            yield Check(
                "folder",
                ok=False,
                found=f"{nearest} can't be written to",
                hint="Give this user the right to, or choose another path.",
            )
        else:
            made = "" if nearest == folder else ", will be made"
            yield Check("folder", ok=True, found=f"{folder}{made}")
        if "{{" not in path and Path(path).exists():
            usable = Path(path).is_file() and os.access(path, os.W_OK)
            hint = "" if usable else "It must be a file that this user can write to."
            yield Check("file", ok=usable, found=path, hint=hint)

    def open(self, opening: SinkOpening) -> None:
        """Cut the files back to what was settled. Raises FatalError when that can't be done."""
        self._rule = PathRule(
            self._settings.path, writer=opening.writer, compile_template=opening.compile_template
        )
        state = read_state(opening.state)
        label = f"{self._name}.{opening.writer}" if opening.writer else self._name
        path = os.path.join(self._rule.folder, f".penstock.{label}.journal")  # noqa: PTH118 - text
        try:
            if state is not None and state.journal != path and Path(state.journal).exists():
                # The path's folder has been changed in the flow file since.
                former = Journal(state.journal)
                recovered = False
                try:
                    self._recover(former, state)
                    recovered = True
                finally:
                    former.close(remove=recovered)
            journal = Journal(path)
        except OSError as error:
            raise _fatal(error, path, "open the journal") from error
        try:
            self._recover(journal, state)
            journal.restart(state.life if state else secrets.token_hex(8))
            if state is not None:
                journal.mark_settled()
        except BaseException as error:
            journal.close()
            if isinstance(error, OSError):
                raise _fatal(error, error.filename or path, "cut back") from error
            raise
        self._journal = journal
        self._settled_batch = state.batch if state else 0
        self._dirty = True

    def _recover(self, journal: Journal, state: SettledState | None) -> None:
        if state is None:
            # Without a state, what an unsettled first batch wrote is undone; but where a batch
            # was settled once, the state has been reset, and the files are left as they are.
            if not journal.settled:
                undo(journal.entries, after=0)
            return
        if journal.life == state.life:
            undo(journal.entries, after=state.batch)
        elif journal.life and journal.path == state.journal:
            raise FatalError(
                f"the journal {journal.path} belongs to another run of this sink than the state "
                "store does.",
                code="file_journal",
                hint="Another flow's sink of the same name writes to this folder: rename one. Or "
                "the state store is an old copy: delete the journal, and check the files' ends.",
            )
        cut_back(state.lengths, self._settings.on_missing)

    def undo_unsettled(self, state: Mapping[str, str]) -> None:
        """Cut back the files of a writer that will not come back: when there are fewer workers."""
        settled = read_state(state)
        if settled is None or not Path(settled.journal).parent.is_dir():
            return
        try:
            journal = Journal(settled.journal)
            try:
                if journal.life not in {"", settled.life}:
                    return  # others have gone on with these files
                undo(journal.entries, after=settled.batch)
                # A file that was moved away is not missed: nobody will write to it.
                cut_back(settled.lengths, "new_file")
                journal.restart(settled.life)
                journal.mark_settled()
            finally:
                journal.close()
        except OSError as error:
            raise _fatal(error, error.filename or settled.journal, "cut back") from error

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Append each event to its file and wait until it is on the disk."""
        if not len(events):
            return {}
        groups, failures = self._rule.group(events)
        lines = lines_of(events, self._settings.format)
        self._dirty = True
        paths = list(groups)
        step = self._settings.max_open_files
        for start in range(0, len(paths), step):
            share = {path: groups[path] for path in paths[start : start + step]}
            for path, error in self._write(share, lines).items():
                failures.update(dict.fromkeys(groups[path], error))
        return failures

    def _write(
        self, groups: Mapping[str, Sequence[int]], lines: Sequence[bytes]
    ) -> dict[str, PenstockError]:
        """Write to at most `max_open_files` files; return the path of each that failed."""
        journal = self._journal
        assert journal is not None  # noqa: S101 - the contract: open comes first
        failed: dict[str, PenstockError] = {}
        folders: set[str] = set()
        entries: list[Entry] = []
        opened: list[OutputFile] = []
        turned: list[tuple[OutputFile, str]] = []
        batch = self._settled_batch + 1
        for path in groups:
            try:
                file = self._open_files.get(path)
                if file is None:
                    self._make_room(groups)
                    file = self._open_files[path] = OutputFile(path)
                    opened.append(file)
                    entries.append(Touched(batch, path, None if file.created else file.length))
                    if file.created:
                        folders.add(os.path.dirname(path))  # noqa: PTH120 - text
                self._open_files.move_to_end(path)
                if self._settings.rotate is not None and file.length >= self._settings.rotate:
                    to = file.rotated_name()
                    entries.append(Rotated(batch, path, to))
                    turned.append((file, to))
            except OSError as error:
                failed[path] = self._error(error, path)
        try:
            if self._state_is_stored or self._settled_batch > _NOT_YET_DURABLE:
                journal.mark_settled()
            if len(journal.entries) > self._journal_limit:
                journal.restart(after=self._settled_batch - _NOT_YET_DURABLE)
                self._journal_limit = max(_JOURNAL_ENTRIES, 2 * len(journal.entries))
            if entries:
                journal.append(entries)
        except OSError as error:
            # Nothing may be touched that is not announced.
            for file in opened:
                self._forget(file)
            announced = _error(error, journal.path)
            return {path: failed.get(path, announced) for path in groups}
        for file, to in turned:
            try:
                file.rotate(to)
                folders.add(os.path.dirname(to))  # noqa: PTH120 - text
            except OSError as error:
                failed[file.path] = self._lost(file, error)
        lengths = {path: self._open_files[path].length for path in groups if path not in failed}
        for path, length in lengths.items():
            try:
                indexes = groups[path]
                whole = len(indexes) == len(lines)
                chosen = lines if whole else [lines[index] for index in indexes]
                self._open_files[path].append(joined(chosen))
            except OSError as error:
                failed[path] = self._taken_back(path, length, error)
        for path, length in lengths.items():
            if path not in failed:
                try:
                    self._open_files[path].sync()
                except FatalError as error:
                    failed[path] = error
                except OSError as error:
                    failed[path] = self._taken_back(path, length, error)
        try:
            for folder in folders:
                sync_folder(folder)
        except OSError as error:
            failed |= {path: _fatal(error, path, "sync the folder of") for path in lengths}
        return failed

    def _make_room(self, needed: Mapping[str, Sequence[int]]) -> None:
        """Close the files written to longest ago; all of them are synced."""
        while len(self._open_files) >= self._settings.max_open_files:
            path = next(path for path in self._open_files if path not in needed)
            self._open_files.pop(path).close()

    def _taken_back(self, path: str, length: int, error: OSError) -> PenstockError:
        """Cut the file to the length it had before this batch; return what the events get."""
        try:
            self._open_files[path].cut(length)
        except OSError as second:
            return _fatal(second, path, "take back a partial write to")
        return self._error(error, path)

    def _lost(self, file: OutputFile, error: OSError) -> PenstockError:
        """Let go of a file whose rotation stopped half-way: the next try opens it anew."""
        if not Path(file.path).exists():
            # Renamed, but not begun anew: the next try does that.
            self._open_files.pop(file.path).close()
        return self._error(error, file.path)

    def _forget(self, file: OutputFile) -> None:
        self._open_files.pop(file.path, None)
        file.close()
        if file.created:
            Path(file.path).unlink(missing_ok=True)

    def _error(self, error: OSError, path: str) -> PenstockError:
        if path != self._rule.constant and error.errno in _OF_THE_PATH:
            return PermanentError(
                f"the event's path {path[:300]} can't be a file: {error.strerror}.",
                code="file_path",
                hint=f"Check what {self._settings.path} renders to.",
            )
        return _error(error, path)

    def settled_state(self) -> Mapping[str, str] | None:
        """Return the open files' lengths, to be stored in the batch's settle transaction."""
        if not self._open_files:
            self._state_is_stored = True  # asked before the first `deliver`, which waits for that
        if self._dirty:
            journal = self._journal
            assert journal is not None  # noqa: S101 - the contract: open comes first
            self._settled_batch += 1
            self._dirty = False
            lengths = {path: file.length for path, file in self._open_files.items()}
            self._state = SettledState(
                journal.life, self._settled_batch, journal.path, lengths
            ).to_mapping()
        return self._state

    def close(self) -> None:
        """Close the files. What was delivered is durable already."""
        for file in self._open_files.values():
            file.close()
        self._open_files.clear()
        if self._journal is not None:
            self._journal.close()
            self._journal = None


_FULL = {errno.ENOSPC, errno.EDQUOT}
_OF_THE_PATH = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ}
_HINTS = {
    errno.EACCES: "Give this user the right to write there.",
    errno.EPERM: "Give this user the right to write there.",
    errno.EROFS: "The file system is read-only: remount it, or choose another path.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or lower max_open_files.",
    errno.EFBIG: "Set `rotate` below the greatest size of a file there.",
}


def _error(error: OSError, path: str) -> PenstockError:
    if error.errno in _FULL:
        return RetryableError(
            f"the disk of {path} is full.",
            code="file_disk_full",
            hint="Make room: the events wait and are tried again.",
            path=path,
        )
    return _fatal(error, path, "write to")


def _fatal(error: OSError, path: str, doing: str) -> FatalError:
    return FatalError(
        f"can't {doing} {path}: {error.strerror}.",
        code="file_error",
        hint=_HINTS.get(error.errno or 0, "Check the disk and the path."),
        path=path,
    )
