"""How much this package logs, in processes that are ours: ``FLOE_LOG_LEVEL``, as in all of floe."""

from __future__ import annotations

import logging
import os

LEVEL_VARIABLE = "FLOE_LOG_LEVEL"

_PACKAGE = __name__.partition(".")[0]
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_as_configured() -> None:
    """Write this package's log to standard error from the level in ``FLOE_LOG_LEVEL`` on.

    Not set, or no level: logging stays as it is. Whoever has given the package's logger a handler keeps that one.
    """
    level = os.environ.get(LEVEL_VARIABLE, "").upper()
    if level not in _LEVELS:
        return
    package = logging.getLogger(_PACKAGE)
    package.setLevel(level)
    if not package.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_FORMAT))
        package.addHandler(handler)
        package.propagate = False  # once is enough
