"""Pause of Python's garbage collector."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection while a product is loaded, because almost no object is garbage.

    Definitions, a manifest and Dagster's derived objects can be several million objects, and each of the collector's
    full passes looks at all of them.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
