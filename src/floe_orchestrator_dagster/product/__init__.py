"""Loading of a product: its artifacts, floe.yaml, dbt project, profile and manifest become one frozen value.

This package never imports dagster.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import ArtifactsError
from floe_orchestrator_dagster.product.adapters import require_support
from floe_orchestrator_dagster.product.artifacts import (
    ARTIFACTS_PATH_VARIABLE,
    artifacts_path_from_environment,
    check_dependencies_exist,
    check_product_name,
    json_object,
    orchestrator_config,
    read_artifacts_file,
    validate_artifacts,
)
from floe_orchestrator_dagster.product.compute_manifests import parse_for_computes
from floe_orchestrator_dagster.product.computes import compute_profiles, engine_choice
from floe_orchestrator_dagster.product.connections import connection_for_model, connection_for_product
from floe_orchestrator_dagster.product.manifest import Manifest, check_models_exist, find_manifest, prepared_manifest
from floe_orchestrator_dagster.product.prepare import fresh_manifest, parse_project, prepare_manifest
from floe_orchestrator_dagster.product.profiles import select_profile
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE, find_project_path, read_project_directory
from floe_orchestrator_dagster.product.spec import read_spec
from floe_orchestrator_dagster.product.unparsed import check_dependencies_are_mentioned
from floe_orchestrator_dagster.product.values import NO_OVERRIDES, DbtConnection, DbtProject, Overrides, Product

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.config import DagsterConfig

    ManifestSource = Callable[["DbtConnection", Path | None], Manifest]

__all__ = [
    "ARTIFACTS_PATH_VARIABLE",
    "NO_OVERRIDES",
    "DbtConnection",
    "DbtProject",
    "Overrides",
    "Product",
    "artifacts_path_from_environment",
    "connection_for_model",
    "connection_for_product",
    "load_product",
    "manifest_as_prepared",
    "manifest_kept_fresh",
    "manifest_parsed_offline",
    "manifest_rebuilt",
    "orchestrator_config",
    "parse_for_computes",
    "product_from_artifacts",
]

logger = logging.getLogger(__name__)

_ARGUMENT = "CompiledArtifacts"


def manifest_as_prepared(dbt: DbtConnection, artifacts_path: Path | None) -> Manifest:
    """Read the existing manifest, without running dbt. Used everywhere but in ``dagster dev``."""
    return prepared_manifest(dbt.directory, artifacts_path)


def manifest_kept_fresh(dbt: DbtConnection, artifacts_path: Path | None) -> Manifest:
    """Parse the project when its manifest is missing or outdated. Used by ``dagster dev``."""
    return fresh_manifest(dbt, artifacts_path)


def manifest_rebuilt(dbt: DbtConnection, _artifacts_path: Path | None) -> Manifest:
    """Install missing packages and parse the project. Used by ``floe-dagster prepare``."""
    return prepare_manifest(dbt)


def manifest_parsed_offline(dbt: DbtConnection, _artifacts_path: Path | None) -> Manifest:
    """Parse the project with the installed packages. Used by ``floe-dagster prepare --no-deps``."""
    return parse_project(dbt)


def load_product(
    path: Path,
    *,
    expected_name: str | None = None,
    manifest_source: ManifestSource = manifest_as_prepared,
    overrides: Overrides = NO_OVERRIDES,
) -> Product:
    """Load a product from its ``compiled_artifacts.json``.

    Args:
        path: The JSON file.
        expected_name: The product's name, when the caller knows it.
        manifest_source: One of the ``manifest_…`` functions above, which finds or makes the dbt manifest.
        overrides: Settings that take precedence over environment variables.

    Raises:
        FloeDagsterError: A part of the product is missing or not valid. The message has the file, the place in it and
            the fix.
    """
    artifacts = validate_artifacts(read_artifacts_file(path), str(path))
    if expected_name is not None:
        check_product_name(artifacts, expected_name, str(path))
    return _read_product(artifacts, path, str(path), manifest_source, overrides)


def product_from_artifacts(
    content: Mapping[str, Any],
    *,
    manifest_source: ManifestSource = manifest_as_prepared,
) -> Product:
    """Load a product from the JSON object of its artifacts.

    ``FLOE_DBT_PROJECT_DIR`` locates the dbt project. So does ``FLOE_ARTIFACTS_PATH`` when that file belongs to the
    same product. Without either, the product has no dbt project.

    Raises:
        FloeDagsterError: As :func:`load_product`.
    """
    artifacts = validate_artifacts(json_object(content, _ARGUMENT), _ARGUMENT)
    path = _artifacts_path_of(artifacts)
    return _read_product(artifacts, path, _ARGUMENT, manifest_source)


def _artifacts_path_of(artifacts: CompiledArtifacts) -> Path | None:
    if not os.environ.get(ARTIFACTS_PATH_VARIABLE):
        return None
    try:
        path = artifacts_path_from_environment()
        metadata = read_artifacts_file(path).get("metadata")
    except ArtifactsError as error:
        logger.warning(
            "%s cannot be read, so the dbt project is not found through it: %s", ARTIFACTS_PATH_VARIABLE, error
        )
        return None
    name = metadata.get("product_name") if isinstance(metadata, dict) else None
    return path if name == artifacts.metadata.product_name else None


def _read_product(
    artifacts: CompiledArtifacts,
    path: Path | None,
    origin: str,
    manifest_source: ManifestSource,
    overrides: Overrides = NO_OVERRIDES,
) -> Product:
    project_path = find_project_path(path, overrides.project_path)
    config = orchestrator_config(artifacts, origin)
    spec = read_spec(project_path or (path.parent if path else None), artifacts.metadata.product_name)
    unprepared = _Unprepared(path, project_path, overrides.environment, origin)
    dbt = _read_dbt(artifacts, config, unprepared, manifest_source) if artifacts.transforms else None
    check_dependencies_exist(artifacts, dbt.manifest.names if dbt else frozenset(), origin)
    logger.debug("%s: contract version %s, configured: %s", origin, artifacts.version, sorted(config.model_fields_set))
    return Product(path=path, origin=origin, artifacts=artifacts, config=config, spec=spec, dbt=dbt)


@dataclass(frozen=True)
class _Unprepared:
    """Files of a product and the output of its profile, before its dbt project is read."""

    path: Path | None
    project_path: Path | None
    environment: str | None
    origin: str


def _read_dbt(
    artifacts: CompiledArtifacts, config: DagsterConfig, unprepared: _Unprepared, manifest_source: ManifestSource
) -> DbtProject | None:
    origin = unprepared.origin
    if unprepared.project_path is None:
        logger.debug("%s: no dbt project; set %s to run its models", origin, PROJECT_DIR_VARIABLE)
        return None
    directory = read_project_directory(unprepared.project_path, artifacts.metadata.product_name)
    choice = engine_choice(config, artifacts.transforms.default_compute if artifacts.transforms else "")
    profile = select_profile(artifacts, directory, origin, choice, unprepared.environment)
    connection = DbtConnection(directory, profile, choice=choice)
    logger.debug("%s: dbt project %s, target %s", origin, directory.path, connection.profile.target)
    profiles = compute_profiles(artifacts, connection.profile, config, directory, origin)
    missing = {variable.name for profile in profiles.values() for variable in profile.missing_variables}
    for name in sorted(missing):
        logger.warning("%s: the dbt profile reads %s, which is not set; runs will fail", origin, name)
    if find_manifest(directory) is None:
        check_dependencies_are_mentioned(artifacts, directory, origin)
    manifest = manifest_source(connection, unprepared.path)
    check_models_exist(artifacts, manifest, origin)
    logger.debug("%s: %d dbt assets in %s", origin, len(manifest.asset_nodes), manifest.path)
    choices = {compute: engine_choice(config, compute) for compute in profiles}
    dbt = DbtProject(directory, connection.profile, manifest, profiles, choice=choice, choices=choices)
    require_support(dbt, artifacts.transforms.models if artifacts.transforms else ())
    if dbt.installed_engine is None:
        logger.warning("%s: no dbt is installed; runs will fail", origin)
    return dbt
