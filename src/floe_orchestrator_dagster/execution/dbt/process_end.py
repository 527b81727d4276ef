"""End of the process that runs dbt, within seconds."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

# Time for the exit handlers of models and libraries. Some wait for threads that never end.
_SECONDS = 5.0


class PythonEnd:
    """The end of the Python process: runs exit handlers, and does not free dbt's objects."""

    def __init__(self) -> None:
        # Exit handlers run in reverse order of registration, so this one runs last. Python joins threads before them.
        atexit.register(self._end)
        self._status = 0

    def begin(self, status: int) -> NoReturn:
        """End the process with a status, within a few seconds."""
        self._status = status
        limit = threading.Timer(_SECONDS, self._end)
        limit.daemon = True
        limit.start()
        sys.exit(status)

    def _end(self) -> None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(self._status)
