"""Lookup of the dbt project and profile for a model that floe-core passes without its product."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import ArtifactsError, Problem, ProfileError, ProjectError
from floe_orchestrator_dagster.product.artifacts import (
    ARTIFACTS_PATH_VARIABLE,
    artifacts_path_from_environment,
    orchestrator_config,
    read_artifacts_file,
    validate_artifacts,
)
from floe_orchestrator_dagster.product.computes import compute_profiles, engine_choice
from floe_orchestrator_dagster.product.profiles import select_profile
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE, find_project_path, read_project_directory
from floe_orchestrator_dagster.product.values import DbtConnection

if TYPE_CHECKING:
    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product.values import Product


def connection_for_product(product: Product, compute: str) -> DbtConnection:
    """Return the dbt project and profile for a model of a product that was loaded without a dbt project.

    Raises:
        FloeDagsterError: There is still no dbt project, or its profile has no output for the compute.
    """
    return _connect(product.artifacts, product.config, find_project_path(product.path), compute, product.origin)


def connection_for_model(model_path: str, compute: str | None = None) -> DbtConnection:
    """Return the dbt project and profile for a model without a product (``create_assets_from_transforms``).

    The artifacts come from ``FLOE_ARTIFACTS_PATH``, or from ``compiled_artifacts.json`` in the dbt project or its
    ``target/``. The dbt project is the nearest one above ``model_path``, or the one of the artifacts.

    Args:
        model_path: Path of the model's file; empty when unknown.
        compute: The model's compute; None for the product's default.

    Raises:
        FloeDagsterError: The dbt project is missing, no artifacts have its profile, or the compute is unknown.
    """
    above_model = find_project_path(Path(model_path)) if Path(model_path).is_file() else find_project_path(None)
    path = _artifacts_path_near(above_model)
    artifacts = validate_artifacts(read_artifacts_file(path), str(path))
    config = orchestrator_config(artifacts, str(path))
    return _connect(artifacts, config, above_model or find_project_path(path), compute, str(path))


def _connect(
    artifacts: CompiledArtifacts, config: DagsterConfig, project_path: Path | None, compute: str | None, origin: str
) -> DbtConnection:
    if project_path is None:
        what = "this product has no dbt project, so there is nothing to run"
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory with dbt_project.yml."
        raise ProjectError(origin, [Problem("", what, fix)])
    directory = read_project_directory(project_path, artifacts.metadata.product_name)
    default = artifacts.transforms.default_compute if artifacts.transforms else ""
    choice = engine_choice(config, compute or default)
    profile = select_profile(artifacts, directory, origin, choice)
    profiles = compute_profiles(artifacts, profile, config, directory, origin)
    if compute is not None and artifacts.transforms is not None and compute not in profiles:
        what = f"the model needs compute {compute!r}, but the profile has {', '.join(map(repr, profiles))}"
        raise ProfileError(origin, [Problem("compute", what, "Correct `compute:` of the transform in floe.yaml.")])
    return DbtConnection(directory, profiles.get(compute or "", profile), choice=choice)


def _artifacts_path_near(project_path: Path | None) -> Path:
    if project_path and not os.environ.get(ARTIFACTS_PATH_VARIABLE):
        candidates = [project_path / "compiled_artifacts.json", project_path / "target" / "compiled_artifacts.json"]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            fix = f"Compile the product there, or set {ARTIFACTS_PATH_VARIABLE} to its compiled_artifacts.json."
            raise ArtifactsError(
                str(project_path), [Problem("", "no compiled_artifacts.json in it or its target", fix)]
            )
        return found
    return artifacts_path_from_environment()
