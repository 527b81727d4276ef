"""Tables and views of a DuckDB file, listed without dbt by a process of ``duckdb_listing.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.dbt.catalog import EVERY_DATABASE, Catalog, relations_with
from floe_orchestrator_dagster.execution.dbt.engine_process import absolute_python_path

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product import DbtConnection

_LISTING = "floe_orchestrator_dagster.execution.dbt.duckdb_listing"
_SECONDS = 600  # until another run of dbt has released the file
# DuckDB writes alternately to two headers. Each has a checksum, and then the number of the write.
_HEADERS = (4096, 8192)
_END_OF_HEADERS = 12288


def duckdb_catalog(dbt: DbtConnection) -> Catalog | None:
    """List the tables and views of the connection's DuckDB file, with their columns.

    Returns:
        The catalog, of all databases that the file is attached as. None if this cannot be found out: the connection is
        not a single local file, or the file cannot be read.
    """
    output = dbt.profile.outputs.get(dbt.profile.target or "", {})
    files = dbt.profile.duckdb_files
    others = {"attach", "is_ducklake", "remote", "plugins", "secrets", "database"} & output.keys()
    if len(files) != 1 or others:
        return None
    path = (dbt.directory.path / files[0]).resolve()
    if not path.exists():
        return Catalog(databases=EVERY_DATABASE)
    command = [sys.executable, "-m", _LISTING, str(path)]
    try:
        ended = subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=_SECONDS,
            cwd=path.parent,
            env={**os.environ, **absolute_python_path()},
        )
        rows = json.loads(ended.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Catalog(relations_with(rows), EVERY_DATABASE)


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
