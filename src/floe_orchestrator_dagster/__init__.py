"""floe data products in Dagster.

Importing this package is cheap; dagster, dagster-dbt and dbt are imported when they are first needed.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from floe_orchestrator_dagster.loader import load_product_definitions
    from floe_orchestrator_dagster.plugin import DagsterOrchestratorPlugin

__all__ = ["DagsterOrchestratorPlugin", "__version__", "load_product_definitions"]

__version__ = version("floe-orchestrator-dagster")


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name == "DagsterOrchestratorPlugin":
        from floe_orchestrator_dagster.plugin import DagsterOrchestratorPlugin

        return DagsterOrchestratorPlugin
    if name == "load_product_definitions":
        from floe_orchestrator_dagster.loader import load_product_definitions

        return load_product_definitions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
