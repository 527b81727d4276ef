"""floe data products in Dagster.

Importing this package is cheap: dagster, dagster-dbt and dbt are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from floe_orchestrator_dagster.assets.translator import FloeDbtTranslator
    from floe_orchestrator_dagster.component import FloeProductComponent
    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.errors import (
        AlertError,
        ArtifactsError,
        ConfigError,
        DbtBuildError,
        DbtNodesError,
        DbtSetupError,
        DeployError,
        EngineError,
        EntryPointError,
        FloeDagsterError,
        InstanceError,
        LineageError,
        ManifestError,
        Problem,
        ProfileError,
        ProjectError,
        PullRequestError,
        ScheduleError,
        SpecError,
        StateError,
    )
    from floe_orchestrator_dagster.loader import load_definitions_from_environment, load_product_definitions
    from floe_orchestrator_dagster.plugin import DagsterOrchestratorPlugin

__all__ = [
    "AlertError",
    "ArtifactsError",
    "ConfigError",
    "DagsterConfig",
    "DagsterOrchestratorPlugin",
    "DbtBuildError",
    "DbtNodesError",
    "DbtSetupError",
    "DeployError",
    "EngineError",
    "EntryPointError",
    "FloeDagsterError",
    "FloeDbtTranslator",
    "FloeProductComponent",
    "InstanceError",
    "LineageError",
    "ManifestError",
    "Problem",
    "ProfileError",
    "ProjectError",
    "PullRequestError",
    "ScheduleError",
    "SpecError",
    "StateError",
    "__version__",
    "load_definitions_from_environment",
    "load_product_definitions",
]

__version__ = version("floe-orchestrator-dagster")

# The module of each public name that is not in `errors`.
_MODULES = {
    "DagsterConfig": "config",
    "DagsterOrchestratorPlugin": "plugin",
    "FloeDbtTranslator": "assets.translator",
    "FloeProductComponent": "component",
    "load_definitions_from_environment": "loader",
    "load_product_definitions": "loader",
}


def __getattr__(name: str) -> object:
    """Import a public name on first access (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    return value


def __dir__() -> list[str]:
    """List the public names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
