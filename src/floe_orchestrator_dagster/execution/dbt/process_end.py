"""End of the process that runs dbt: connections are closed first, and Python ends within seconds."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

# For what models and libraries do when Python ends; some of them wait for threads that never do.
_SECONDS = 5.0


def close_connections() -> None:
    """Close the connections of all adapters, as dbt's own command does before it ends.

    DuckDB writes what its ``.wal`` file holds into the database when the last connection is closed.
    """
    factory = sys.modules.get("dbt.adapters.factory")
    if factory is None:
        return
    factory.FACTORY.cleanup_connections()
    for adapter in factory.FACTORY.adapters.values():
        # dbt-duckdb's threads share a connection that is not among those of the adapter.
        close_all = getattr(adapter.connections, "close_all_connections", None)
        if close_all is not None:
            close_all()


class PythonEnd:
    """The end of Python: what is registered for it runs, and the objects of dbt are left to the operating system."""

    def __init__(self) -> None:
        # Registered first, called last. Until then threads are waited for, those of models and drivers too.
        atexit.register(self._end)
        self._status = 0

    def begin(self, status: int) -> NoReturn:
        """End with a status, in a few seconds at most."""
        self._status = status
        limit = threading.Timer(_SECONDS, self._end)
        limit.daemon = True
        limit.start()
        sys.exit(status)

    def _end(self) -> None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(self._status)
