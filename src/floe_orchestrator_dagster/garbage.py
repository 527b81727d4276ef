"""Pause of Python's garbage collector."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection while a product is loaded.

    A load creates up to several million objects (a manifest, definitions, Dagster's derived objects), of which almost
    none is garbage. Each full pass of the collector would visit all of them.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
