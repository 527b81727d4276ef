"""The product that ``FLOE_ARTIFACTS_PATH`` names, and the orchestrator's configuration in its artifacts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import DagsterConfig, read_config
from floe_orchestrator_dagster.errors import ArtifactsError, Problem
from floe_orchestrator_dagster.product.files import user_path

if TYPE_CHECKING:
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

ARTIFACTS_PATH_VARIABLE = "FLOE_ARTIFACTS_PATH"


def artifacts_path_from_environment() -> Path:
    """Read ``FLOE_ARTIFACTS_PATH``.

    Raises:
        ArtifactsError: The variable is not set. The message shows how to set it and how to create a sample product.
    """
    named = os.environ.get(ARTIFACTS_PATH_VARIABLE)
    if named:
        return user_path(named, ARTIFACTS_PATH_VARIABLE, ArtifactsError, "Write the path without `~`.")
    fix = (
        "Set it to the file that `floe platform compile` writes, and start again:\n"
        f"        export {ARTIFACTS_PATH_VARIABLE}=path/to/compiled_artifacts.json\n"
        "        dagster dev -m floe_orchestrator_dagster.definitions\n"
        "    No product yet? `floe-dagster demo retail-orders` writes one and shows how to run it."
    )
    raise ArtifactsError(ARTIFACTS_PATH_VARIABLE, [Problem("", "the environment variable is not set", fix)])


def orchestrator_config(artifacts: CompiledArtifacts, origin: str) -> DagsterConfig:
    """Read the orchestrator's configuration from the contract, ``plugins.orchestrator.config``.

    Raises:
        ConfigError: As :func:`~floe_orchestrator_dagster.config.read_config`.
    """
    orchestrator = artifacts.plugins.orchestrator if artifacts.plugins else None
    return read_config(orchestrator.config if orchestrator else None, origin)
