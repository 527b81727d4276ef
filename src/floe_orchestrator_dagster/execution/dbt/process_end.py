"""End of the process that runs dbt, within seconds."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

# For what models and libraries do when Python ends; some of them wait for threads that never do.
_SECONDS = 5.0


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
