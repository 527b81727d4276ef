"""Reading a product: artifacts, floe.yaml, dbt project, profile and manifest become one frozen value.

Nothing in here imports dagster.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.config import DagsterConfig, read_config
from floe_orchestrator_dagster.errors import ArtifactsError, Problem, ProfileError, ProjectError
from floe_orchestrator_dagster.product.artifacts import (
    check_dependencies_exist,
    check_product_name,
    json_object,
    read_artifacts_file,
    validate_artifacts,
)
from floe_orchestrator_dagster.product.computes import compute_profiles
from floe_orchestrator_dagster.product.manifest import Manifest, check_models_exist, prepared_manifest
from floe_orchestrator_dagster.product.prepare import fresh_manifest, prepare_manifest
from floe_orchestrator_dagster.product.profiles import Profile, select_profile
from floe_orchestrator_dagster.product.project import (
    PROJECT_DIR_VARIABLE,
    ProjectDirectory,
    find_project_path,
    read_project_directory,
)
from floe_orchestrator_dagster.product.spec import ProductSpec, read_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts, ResolvedModel

    ManifestSource = Callable[["DbtConnection", Path | None], Manifest]

__all__ = [
    "ARTIFACTS_PATH_VARIABLE",
    "DbtConnection",
    "DbtProject",
    "Product",
    "artifacts_path_from_environment",
    "connection_for_model",
    "connection_for_product",
    "load_product",
    "manifest_as_prepared",
    "manifest_kept_fresh",
    "manifest_made_anew",
    "orchestrator_config",
    "product_from_artifacts",
]

logger = logging.getLogger(__name__)

ARTIFACTS_PATH_VARIABLE = "FLOE_ARTIFACTS_PATH"
_ARGUMENT = "CompiledArtifacts"


@dataclass(frozen=True)
class DbtConnection:
    """A dbt project directory and the profile to run it with."""

    directory: ProjectDirectory
    profile: Profile


@dataclass(frozen=True)
class DbtProject(DbtConnection):
    """A dbt project that can be built: directory, profile and manifest.

    Attributes:
        manifest: dbt's manifest, trimmed.
        profiles: The profile of each compute that a model asks for; they differ in their target.
    """

    manifest: Manifest
    profiles: Mapping[str, Profile]

    def on(self, compute: str) -> DbtConnection:
        """Connect to dbt on the target of ``compute``; on the product's own for one that no model asks for."""
        return DbtConnection(self.directory, self.profiles.get(compute, self.profile))


@dataclass(frozen=True)
class Product:
    """A data product, read and checked; everything else is made from it.

    Attributes:
        path: The artifacts' file; for artifacts handed over as an object, the file that tells where its dbt project
            is, if any.
        origin: What messages call it: the artifacts' path, or the argument they came in.
        artifacts: The validated contract.
        config: The orchestrator's typed configuration.
        spec: What floe.yaml adds.
        dbt: The dbt project; None when there is none, then the contract alone is used.
    """

    path: Path | None
    origin: str
    artifacts: CompiledArtifacts
    config: DagsterConfig
    spec: ProductSpec
    dbt: DbtProject | None

    @property
    def name(self) -> str:
        """The product's name, such as ``retail-orders``."""
        return self.artifacts.metadata.product_name

    @property
    def identifier(self) -> str:
        """The name in the form Dagster allows for jobs and groups, such as ``retail_orders``."""
        return self.name.replace("-", "_")

    @property
    def models(self) -> list[ResolvedModel]:
        """The declared models; empty when the product declares no transforms."""
        return self.artifacts.transforms.models if self.artifacts.transforms else []


def manifest_as_prepared(dbt: DbtConnection, artifacts_path: Path | None) -> Manifest:
    """Use the manifest that is there; dbt never runs. The choice outside ``dagster dev``."""
    return prepared_manifest(dbt.directory, artifacts_path)


def manifest_kept_fresh(dbt: DbtConnection, artifacts_path: Path | None) -> Manifest:
    """Parse the project when its manifest is missing or outdated. The choice of ``dagster dev``."""
    return fresh_manifest(dbt.directory, dbt.profile, artifacts_path)


def manifest_made_anew(dbt: DbtConnection, _artifacts_path: Path | None) -> Manifest:
    """Install packages and parse the project, whatever is there. The choice of ``floe-dagster prepare``."""
    return prepare_manifest(dbt.directory, dbt.profile)


def artifacts_path_from_environment() -> Path:
    """Read ``FLOE_ARTIFACTS_PATH``.

    Raises:
        ArtifactsError: It is not set; the message shows the two lines that help.
    """
    named = os.environ.get(ARTIFACTS_PATH_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    fix = (
        "Name the compiled product and start again:\n"
        f"        export {ARTIFACTS_PATH_VARIABLE}=path/to/compiled_artifacts.json\n"
        "        dagster dev -m floe_orchestrator_dagster.definitions"
    )
    raise ArtifactsError(ARTIFACTS_PATH_VARIABLE, [Problem("", "the environment variable is not set", fix)])


def load_product(
    path: Path,
    *,
    expected_name: str | None = None,
    manifest_source: ManifestSource = manifest_as_prepared,
) -> Product:
    """Read the product whose ``compiled_artifacts.json`` is ``path``.

    Args:
        path: The JSON file.
        expected_name: The product's name, when the caller knows it.
        manifest_source: Where the dbt manifest comes from, one of the ``manifest_…`` functions above.

    Raises:
        FloeDagsterError: Anything about the product that cannot be used, with the file, the place in it and the fix.
    """
    artifacts = validate_artifacts(read_artifacts_file(path), str(path))
    if expected_name is not None:
        check_product_name(artifacts, expected_name, str(path))
    return _read_product(artifacts, path, str(path), manifest_source)


def product_from_artifacts(
    content: Mapping[str, Any],
    *,
    manifest_source: ManifestSource = manifest_as_prepared,
) -> Product:
    """Read a product from the JSON object of its artifacts.

    Its dbt project is found through ``FLOE_DBT_PROJECT_DIR``, or through ``FLOE_ARTIFACTS_PATH`` when that file is of
    the same product; otherwise it has none.

    Raises:
        FloeDagsterError: As :func:`load_product`.
    """
    artifacts = validate_artifacts(json_object(content, _ARGUMENT), _ARGUMENT)
    path = _artifacts_path_of(artifacts)
    return _read_product(artifacts, path, _ARGUMENT, manifest_source)


def _artifacts_path_of(artifacts: CompiledArtifacts) -> Path | None:
    named = os.environ.get(ARTIFACTS_PATH_VARIABLE)
    if not named:
        return None
    path = Path(named).expanduser().absolute()
    try:
        metadata = read_artifacts_file(path).get("metadata")
    except ArtifactsError as error:
        logger.warning("%s does not tell where the dbt project is: %s", ARTIFACTS_PATH_VARIABLE, error)
        return None
    name = metadata.get("product_name") if isinstance(metadata, dict) else None
    return path if name == artifacts.metadata.product_name else None


def _read_product(
    artifacts: CompiledArtifacts,
    path: Path | None,
    origin: str,
    manifest_source: ManifestSource,
) -> Product:
    project_path = find_project_path(path)
    config = orchestrator_config(artifacts, origin)
    spec = read_spec(project_path or (path.parent if path else None), artifacts.metadata.product_name)
    dbt = _read_dbt(artifacts, config, path, manifest_source, origin) if artifacts.transforms else None
    check_dependencies_exist(artifacts, dbt.manifest.names if dbt else frozenset(), origin)
    logger.debug("%s: contract version %s, configured: %s", origin, artifacts.version, sorted(config.model_fields_set))
    return Product(path=path, origin=origin, artifacts=artifacts, config=config, spec=spec, dbt=dbt)


def orchestrator_config(artifacts: CompiledArtifacts, origin: str) -> DagsterConfig:
    """Read this package's part of the contract, ``plugins.orchestrator.config``.

    Raises:
        ConfigError: As :func:`~floe_orchestrator_dagster.config.read_config`.
    """
    orchestrator = artifacts.plugins.orchestrator if artifacts.plugins else None
    return read_config(orchestrator.config if orchestrator else None, origin)


def _read_dbt(
    artifacts: CompiledArtifacts, config: DagsterConfig, path: Path | None, manifest_source: ManifestSource, origin: str
) -> DbtProject | None:
    project_path = find_project_path(path)
    if project_path is None:
        logger.debug("%s: no dbt project; set %s to run its models", origin, PROJECT_DIR_VARIABLE)
        return None
    directory = read_project_directory(project_path, artifacts.metadata.product_name)
    connection = DbtConnection(directory, select_profile(artifacts, directory, origin))
    logger.debug("%s: dbt project %s, target %s", origin, directory.path, connection.profile.target)
    profiles = compute_profiles(artifacts, connection.profile, config, directory, origin)
    missing = {variable.name for profile in profiles.values() for variable in profile.missing_variables}
    for name in sorted(missing):
        logger.warning("%s: the dbt profile reads %s, which is not set; runs will fail", origin, name)
    manifest = manifest_source(connection, path)
    check_models_exist(artifacts, manifest, origin)
    logger.debug("%s: %d dbt assets in %s", origin, len(manifest.asset_nodes), manifest.path)
    return DbtProject(directory, connection.profile, manifest, profiles)


def connection_for_product(product: Product, compute: str) -> DbtConnection:
    """Find dbt for a model of a product that had no dbt project when it was loaded.

    Raises:
        FloeDagsterError: There still is none, or its profile has no output for the compute.
    """
    return _connect(product.artifacts, product.config, find_project_path(product.path), compute, product.origin)


def connection_for_model(model_path: str, compute: str | None = None) -> DbtConnection:
    """Find dbt for a model that was handed over without its product (``create_assets_from_transforms``).

    The artifacts are ``FLOE_ARTIFACTS_PATH``, or the ``compiled_artifacts.json`` in (or in ``target/`` of) the dbt
    project; the dbt project is the artifacts' own, or the nearest one above ``model_path``.

    Args:
        model_path: Path of the model's file; empty when unknown.
        compute: The compute that the model asks for; None for the product's own.

    Raises:
        FloeDagsterError: There is no dbt project, no artifacts to take its profile from, or another compute.
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
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory that holds dbt_project.yml."
        raise ProjectError(origin, [Problem("", what, fix)])
    directory = read_project_directory(project_path, artifacts.metadata.product_name)
    profile = select_profile(artifacts, directory, origin)
    profiles = compute_profiles(artifacts, profile, config, directory, origin)
    if compute is not None and artifacts.transforms is not None and compute not in profiles:
        what = f"the model asks for compute {compute!r}, but dbt runs on {', '.join(map(repr, profiles))}"
        raise ProfileError(origin, [Problem("compute", what, "Correct `compute:` of the transform in floe.yaml.")])
    return DbtConnection(directory, profiles.get(compute or "", profile))


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
