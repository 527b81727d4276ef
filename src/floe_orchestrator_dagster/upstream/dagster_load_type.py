"""Whether this process makes definitions, or makes them again for a run.

Dagster keeps that in a context without a public name. Where it is missing, definitions are taken as new and as loaded
by a user's script, as Dagster does outside of any context: a product is then also checked for settings without effect
in the process of a run, and garbage is collected as usual.
"""

from __future__ import annotations

from enum import Enum


class DefinitionsLoadType(Enum):
    """Purpose for which definitions are created, by Dagster's names."""

    INITIALIZATION = "INITIALIZATION"
    RECONSTRUCTION = "RECONSTRUCTION"


def load_type() -> DefinitionsLoadType:
    """Return what definitions are made for in this process at the moment."""
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
