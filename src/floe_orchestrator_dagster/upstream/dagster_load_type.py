"""Purpose for which Dagster loads definitions in this process: to serve them, or to reconstruct them for a run.

Dagster stores the purpose in a context that is not public. If Dagster has no such context, every load counts as that of
a user's script, to serve definitions. Runs then also log the warnings about settings, and collect garbage as usual.
"""

from __future__ import annotations

from enum import Enum


class DefinitionsLoadType(Enum):
    """Purpose of a load, with Dagster's names."""

    INITIALIZATION = "INITIALIZATION"
    RECONSTRUCTION = "RECONSTRUCTION"


def load_type() -> DefinitionsLoadType:
    """Return the purpose of the current load in this process."""
    try:
        from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext

        return DefinitionsLoadType(DefinitionsLoadContext.get().load_type.value)
    except (ImportError, AttributeError, ValueError):
        return DefinitionsLoadType.INITIALIZATION


def is_dagster_loading() -> bool:
    """Return whether Dagster loads definitions in this process (code server, run, step), not a user's script."""
    try:
        from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext

        return DefinitionsLoadContext.is_set()
    except (ImportError, AttributeError):
        return False
