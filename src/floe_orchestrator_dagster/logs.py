"""Log level of this package's own processes: ``FLOE_LOG_LEVEL``, as in all floe packages."""

from __future__ import annotations

import logging
import os

LEVEL_VARIABLE = "FLOE_LOG_LEVEL"

_PACKAGE = __name__.partition(".")[0]
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_as_configured() -> None:
    """Log this package's messages to standard error from the level in ``FLOE_LOG_LEVEL``.

    Logging stays unchanged when the variable is not set or not a level. An existing handler of the package's logger is
    kept.
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
        package.propagate = False  # avoid duplicate lines
