"""DuckDB file of a pull request. Production's file is attached, read-only, under the name of its catalog."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem, PullRequestError
from floe_orchestrator_dagster.execution.dbt.database_locks import open_lock_files
from floe_orchestrator_dagster.product import DbtConnection
from floe_orchestrator_dagster.pull_request.warehouse import TableName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from floe_orchestrator_dagster.product.profiles import Profile
_DIRECTORY = "floe-ci"
_MARKER = "floe-ci.json"
_LOCK = ".lock"
_EXTERNAL = "external"
# Sources with these are files or data of a plugin.
_NOT_IN_DATABASE = ("external_location", "plugin")
_UNSUPPORTED = ("is_ducklake", "remote")
_CHECK_SECONDS = 0.2


@dataclass(frozen=True)
class DuckdbFile:
    """The DuckDB file of a pull request.

    Attributes:
        name: Its name, and that of its catalog.
        dbt: The dbt project, with the profile of the pull request.
        production: The profile with production's output, which can be the same.
        catalog: The name under which production's tables are known.
        log: Reports that the build waits.
    """

    name: str
    dbt: DbtConnection
    production: Profile
    catalog: str
    log: Callable[[str], None]

    @property
    def _directory(self) -> Path:
        return self.dbt.directory.state_path / _DIRECTORY / self.name

    @property
    def path(self) -> Path:
        """The file."""
        return self._directory / f"{self.name}.duckdb"

    @property
    def description(self) -> str:
        """The destination in a sentence."""
        return f"file {self.path}"

    @property
    def _production_file(self) -> Path:
        return Path(str(_output(self.production)["path"]))

    @property
    def connection(self) -> DbtConnection:
        """The dbt project, with a profile that writes to this file."""
        dbt, output = self.dbt, _output(self.dbt.profile)
        attached = _output(self.production).get("attach")
        others = [_read_only(other) for other in (attached if isinstance(attached, list) else [])]
        # dbt-duckdb does not quote an alias, and names such as prod-1 need it. DuckDB's default is the file's stem.
        renamed = {} if self._production_file.stem == self.catalog else {"alias": self.catalog}
        production = {"path": str(self._production_file), **renamed, "read_only": True}
        own: dict[str, object] = {
            **{key: value for key, value in output.items() if key != "database"},
            "path": str(self.path),
            "attach": [production, *others],
            "external_root": str(self._directory / _EXTERNAL),
        }
        outputs = {**dbt.profile.outputs, str(dbt.profile.target): own}
        return DbtConnection(dbt.directory, replace(dbt.profile, outputs=outputs), choice=dbt.choice)

    def problems(self, nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        """List the nodes that would write to another file; see :meth:`Destination.problems`."""
        for unique_id, node in nodes.items():
            database, config = node.get("database"), node.get("config") or {}
            if str(database).lower() != self.name:
                what = f"its table is in the database {database!r}, not in the file of the pull request"
                yield Problem(unique_id, what, "Derive `database` from target.database, or leave it out.")
            if config.get("materialized") == "external" and config.get("location"):
                what = f"it writes the file {config['location']!r}"
                yield Problem(unique_id, what, "Leave `location` out, or derive it from target.external_root.")
            if config.get("plugin") or config.get("glue_register"):
                what = "it also writes outside of the database, with `plugin` or `glue_register`"
                yield Problem(unique_id, what, "Set them only for production's target, such as by target.name.")

    def original(self, source: Mapping[str, Any], before: TableName | None) -> TableName | None:  # noqa: ARG002
        """Return the table in production's file, unless the source is in another; see :meth:`Destination.original`."""
        table = TableName.of(source)
        config = source.get("config") or {}
        settings = {**(source.get("meta") or {}), **(config.get("meta") or {}), **config}
        if table.database.lower() != self.name or any(settings.get(key) for key in _NOT_IN_DATABASE):
            return None
        return replace(table, database=self.catalog)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Lock the file for this build, and production's against writers; see :meth:`Destination.reserved`."""
        self._check_production()
        own = self._own_lock()
        shared = open_lock_files([str(self._production_file.resolve())])
        try:
            for lock in shared.values():
                self._share(lock)
            yield
        finally:
            self._leave()
            for lock in (own, *shared.values()):
                os.close(lock)

    def _own_lock(self) -> int:
        """Lock the directory; returns the descriptor.

        Raises:
            PullRequestError: Another build uses it.
        """
        path = self._directory / _LOCK
        while True:
            self._directory.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another build has removed the directory
                lock = os.open(path, os.O_RDWR | os.O_CREAT)
                if not _locked(lock, fcntl.LOCK_EX):
                    os.close(lock)
                    fix = "Wait for its end, or use another name."
                    raise PullRequestError("--schema", [Problem("", f"another build uses {self.path}", fix)])
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock), path.stat()):
                        return lock
                os.close(lock)

    def _leave(self) -> None:
        """Remove the directory, unless it has files."""
        if self._directory.is_dir() and not self._files():
            for name in (_LOCK, self._database_lock):
                (self._directory / name).unlink(missing_ok=True)
            with suppress(OSError):  # builds of other pull requests are beside it
                self._directory.rmdir()
                self._directory.parent.rmdir()

    def _check_production(self) -> None:
        fix = "Set `path` of the DuckDB output to production's file, for this machine."
        output = _output(self.production)
        unsupported = [key for key in _UNSUPPORTED if output.get(key)]
        if unsupported or self.production.duckdb_files[:1] != (self._production_file,):
            what = f"{output.get('path')!r} is not a local DuckDB file, which a build can attach read-only"
            raise PullRequestError("dbt profile", [Problem("path", what, fix)])
        if not self._production_file.is_file():
            raise PullRequestError("dbt profile", [Problem("path", f"{self._production_file} does not exist", fix)])
        if self.catalog.lower() == self.name:
            what = f"{self.name!r} is the name of production's database"
            raise PullRequestError("--schema", [Problem("", what, "Use another name, such as pr_123.")])

    def _share(self, lock: int) -> None:
        """Wait for a run of production. Later ones wait for this build, instead of failing at DuckDB's own lock."""
        if _locked(lock, fcntl.LOCK_SH):
            return
        self.log(f"waiting for {self._production_file}, which a run of dbt uses")
        while not _locked(lock, fcntl.LOCK_SH):
            time.sleep(_CHECK_SECONDS)

    def create(self, tables: Iterable[TableName]) -> None:  # noqa: ARG002  # dbt creates the schemas
        """Remove the leftovers of a killed build, and mark the directory; see :meth:`Destination.create`."""
        if not (self._directory / _MARKER).is_file():
            self._check_files()
        self._remove_files()
        marker = {"floe-dagster ci": self.name, "production": str(self._production_file)}
        (self._directory / _MARKER).write_text(json.dumps(marker), encoding="utf-8")

    def check(self) -> None:
        """Do nothing: the lock keeps other builds away; see :meth:`Destination.check`."""

    def remove(self) -> None:
        """Remove the file and its directory; see :meth:`Destination.remove`."""
        if not (self._directory / _MARKER).is_file():
            return
        self._remove_files()
        (self._directory / _MARKER).unlink()
        self._check_files()

    def remove_leftovers(self) -> None:
        """Remove the file of a killed build; see :meth:`Destination.remove_leftovers`."""
        own = self._own_lock()
        try:
            self.remove()
        finally:
            self._leave()
            os.close(own)

    def _check_files(self) -> None:
        """Check that the directory has no files of others.

        Raises:
            PullRequestError: It has.
        """
        if others := self._files():
            what = f"{self._directory} has files that this command has not created: {', '.join(others)}"
            raise PullRequestError("--schema", [Problem("", what, "Move them, or use another name.")])

    def _files(self) -> list[str]:
        """List the files of the directory, without locks."""
        return sorted({path.name for path in self._directory.iterdir()} - {_LOCK, self._database_lock})

    @property
    def _database_lock(self) -> str:
        """The file that dbt's processes lock, see :mod:`execution.dbt.database_locks`."""
        return f".{self.path.name}.lock"

    def _remove_files(self) -> None:
        """Remove what DuckDB and dbt write for this file: the database, its log, and files of external models."""
        for name in (self.path.name, f"{self.path.name}.wal", self._database_lock):
            (self._directory / name).unlink(missing_ok=True)
        for name in (f"{self.path.name}.tmp", _EXTERNAL):
            shutil.rmtree(self._directory / name, ignore_errors=True)


def _locked(lock: int, how: int) -> bool:
    """Lock a file; return False when another process has locked it."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system does not support locks
        return True
    return True


def _output(profile: Profile) -> Mapping[str, object]:
    return profile.outputs[profile.target or ""]


def _read_only(attachment: object) -> object:
    """Return another attached database, without write access."""
    return {**attachment, "read_only": True} if isinstance(attachment, dict) else attachment
