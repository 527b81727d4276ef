"""Tables and views of a DuckDB file, listed without dbt by a process of ``duckdb_listing.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from floe_orchestrator_dagster.execution.dbt.catalog import EVERY_DATABASE, Catalog, relations_with
from floe_orchestrator_dagster.execution.dbt.engine_process import absolute_python_path

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import DbtConnection

_LISTING = "floe_orchestrator_dagster.execution.dbt.duckdb_listing"
_SECONDS = 600  # until another run of dbt has released the file
# DuckDB writes alternately to two headers. Each has a checksum, and then the number of the write.
_HEADERS = (4096, 8192)
_END_OF_HEADERS = 12288


class DuckdbListing:
    """Process that lists the tables and views of a connection's DuckDB file, with their columns."""

    def __init__(self, dbt: DbtConnection) -> None:
        self._dbt = dbt
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        """Start the process before its list is needed. It is ended by :meth:`catalog` or :meth:`close`."""
        path = own_file(self._dbt)
        if self._output is not None or path is None or not path.exists():
            return
        with suppress(OSError):
            # In a pipe, a long list would keep the process and its lock until the list is read.
            self._output = TemporaryFile()  # noqa: SIM115  # closed by `close`
            self._process = subprocess.Popen(
                [sys.executable, "-m", _LISTING, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                cwd=path.parent,
                env={**os.environ, **absolute_python_path()},
            )

    def catalog(self) -> Catalog | None:
        """Return the tables and views. The process is started if it does not run yet.

        Returns:
            The catalog, of all databases that the file is attached as; if the connection attaches other databases, only
            of the file's own one. None if this cannot be found out: the connection is not a local file, or the file
            cannot be read.
        """
        path = own_file(self._dbt)
        if path is None:
            return None
        attaches = "attach" in self._dbt.profile.outputs[self._dbt.profile.target or ""]
        databases = frozenset({path.stem.lower()}) if attaches else EVERY_DATABASE
        if not path.exists():
            self.close()
            return Catalog(databases=databases)
        self.start()
        try:
            rows = self._rows()
        except (OSError, subprocess.SubprocessError, ValueError):
            return None
        finally:
            self.close()
        return None if rows is None else Catalog(relations_with(rows), databases)

    def _rows(self) -> list[tuple[str, str, str, str, str]] | None:
        if self._process is None or self._output is None or self._process.wait(_SECONDS):
            return None
        self._output.seek(0)
        rows: list[tuple[str, str, str, str, str]] = json.load(self._output)
        return rows

    def close(self) -> None:
        """End the process, also if its list was not needed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._output is not None:
            self._output.close()
        self._process = self._output = None


def own_file(dbt: DbtConnection) -> Path | None:
    """Return the DuckDB file in which a connection has its own tables; None if that is not certain."""
    output = dbt.profile.outputs.get(dbt.profile.target or "", {})
    if {"is_ducklake", "remote", "plugins", "secrets", "database"} & output.keys():
        return None
    if "attach" not in output:
        files = dbt.profile.duckdb_files
        return (dbt.directory.path / files[0]).resolve() if len(files) == 1 else None
    path = output.get("path")
    file = Path(path) if isinstance(path, str) and path.startswith("/") and "{" not in path else None
    # DuckDB names the database after the file. A link to the file of an attached database has the name of that one.
    return file if file is not None and file.suffix and "." not in file.stem and file.resolve() == file else None


def database_iteration(path: Path) -> int | None:
    """Return the number of times that DuckDB has written its file: a lower number is that of an older file.

    Returns:
        The number. None if the file does not exist or is not a database.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_END_OF_HEADERS)
    except OSError:
        return None
    if start[8:12] != b"DUCK" or len(start) < _END_OF_HEADERS:
        return None
    return max(int.from_bytes(start[header + 8 : header + 16], "little") for header in _HEADERS)
