"""Products to deploy, with the attributes that their Helm values depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from floe_orchestrator_dagster.config import DagsterConfig, config_path, read_config
from floe_orchestrator_dagster.deploy.names import ImageReference, check_names_differ, parse_image, service_name
from floe_orchestrator_dagster.errors import DeployError, ManifestError, Problem, ProjectError
from floe_orchestrator_dagster.product.artifacts import parse_artifacts, read_artifacts_bytes, validate_artifacts
from floe_orchestrator_dagster.product.computes import with_secrets
from floe_orchestrator_dagster.product.manifest import prepared_manifest
from floe_orchestrator_dagster.product.profiles import Place, is_on_duckdb, targets_of_environments
from floe_orchestrator_dagster.product.project import find_project_path, read_project_directory
from floe_orchestrator_dagster.product.templates import required_variables
from floe_orchestrator_dagster.redaction import redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts


@dataclass(frozen=True)
class DeployedProduct:
    """A product to deploy.

    Attributes:
        name: The product's name.
        service: Name of its service, deployment and code location in Kubernetes.
        origin: Path of its artifacts, for messages.
        content: The artifacts' bytes; None if the values are those of the platform, without artifacts.
        config: The orchestrator's configuration.
        image: Its image.
        assets: Number of assets, from the dbt manifest if there is one.
        on_duckdb: Whether its data is in a DuckDB file.
        targets: Outputs of its dbt profile, from which ``FLOE_ENV`` selects one; None if something else selects it.
        variables: Environment variables without a default in its dbt profile, and those of its alerts.
        may_send_lineage: Whether its pods send lineage when a backend is configured.
    """

    name: str
    service: str
    origin: str
    content: bytes | None
    config: DagsterConfig
    image: ImageReference
    assets: int
    on_duckdb: bool
    targets: tuple[str, ...] | None
    variables: tuple[str, ...]
    may_send_lineage: bool

    @property
    def content_hash(self) -> str | None:
        """SHA-256 of the artifacts. The time of compilation, white space and the order of keys do not change it."""
        if self.content is None:
            return None
        content = json.loads(self.content)
        content["metadata"].pop("compiled_at", None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_products(
    paths: Sequence[Path], images: Sequence[str], fallback: ImageReference | None = None
) -> list[DeployedProduct]:
    """Read the artifacts of every product.

    Args:
        paths: Their ``compiled_artifacts.json`` files.
        images: ``IMAGE`` for all products, or ``PRODUCT=IMAGE`` for one. The default is
            ``plugins.orchestrator.config.deploy.image``.
        fallback: Image of products without any other; None to raise an error for these.

    Raises:
        FloeDagsterError: Artifacts are not valid, a product has no image, or several have the same name.
    """
    sources = {path: read_artifacts_bytes(path) for path in paths}
    read = [(path, validate_artifacts(parse_artifacts(sources[path], path), str(path))) for path in paths]
    check_names_differ([(artifacts.metadata.product_name, path) for path, artifacts in read])
    names = [artifacts.metadata.product_name for _, artifacts in read]
    given = by_product(images, names, "--image")
    return [_product(path, sources[path], artifacts, given, fallback) for path, artifacts in read]


def by_product(given: Sequence[str], products: Sequence[str], option: str) -> dict[str, list[str]]:
    """Group ``VALUE`` (for all products) and ``PRODUCT=VALUE`` by product, in order.

    Raises:
        DeployError: An entry names a product that is not deployed.
    """
    values: dict[str, list[str]] = {product: [] for product in products}
    for entry in given:
        product, separator, value = entry.rpartition("=")
        if separator and product not in values:
            known = ", ".join(products)
            problem = Problem(
                "", f"{redact_value(entry)!r} names a product that is not among the artifacts", f"Products: {known}."
            )
            raise DeployError(option, [problem])
        for name in [product] if separator else products:
            values[name].append(value)
    return values


def _product(
    path: Path,
    content: bytes,
    artifacts: CompiledArtifacts,
    images: Mapping[str, Sequence[str]],
    fallback: ImageReference | None,
) -> DeployedProduct:
    name = artifacts.metadata.product_name
    orchestrator = artifacts.plugins.orchestrator if artifacts.plugins else None
    config = read_config(orchestrator.config if orchestrator else None, str(path))
    return DeployedProduct(
        name=name,
        service=service_name(name),
        origin=str(path),
        content=content,
        config=config,
        image=_image(name, config, images[name], str(path)) or fallback or _no_image(name, str(path)),
        assets=_count_assets(path, artifacts),
        on_duckdb=is_on_duckdb(artifacts),
        targets=targets_of_environments(artifacts),
        variables=_variables(artifacts, config, str(path)),
        may_send_lineage=config.lineage.enabled and artifacts.observability.lineage,
    )


def _variables(artifacts: CompiledArtifacts, config: DagsterConfig, origin: str) -> tuple[str, ...]:
    """Return the variables that the profiles, the configured connections of computes and the alerts require."""
    connections = {
        name: with_secrets(compute.connection, Place(origin, config_path("computes", name)))
        for name, compute in config.computes.items()
        if compute.connection is not None
    }
    required = (*required_variables(artifacts.dbt_profiles), *required_variables(connections))
    channels = (
        name
        for channel in config.alerts
        for name in ([channel.variable] if channel.variable is not None else channel.variables.values())
    )
    return tuple(dict.fromkeys((*(variable.name for variable in required), *channels)))


def _image(name: str, config: DagsterConfig, given: Sequence[str], origin: str) -> ImageReference | None:
    distinct = list(dict.fromkeys(given))
    if len(distinct) > 1:
        what = f"product {name!r} is given {len(distinct)} images: {', '.join(map(redact_value, distinct))}"
        raise DeployError("--image", [Problem("", what, "Give one for each product, as PRODUCT=IMAGE.")])
    if distinct:
        return parse_image(distinct[0], "--image")
    if config.deploy.image:
        return parse_image(config.deploy.image, f"{origin}: {config_path('deploy', 'image')}")
    return None


def _no_image(name: str, origin: str) -> NoReturn:
    fix = f"Give --image, or set {config_path('deploy', 'image')} in manifest.yaml."
    raise DeployError(origin, [Problem("", f"product {name!r} has no image", fix)])


def _count_assets(path: Path, artifacts: CompiledArtifacts) -> int:
    declared = len(artifacts.transforms.models) if artifacts.transforms else 0
    try:
        project_path = find_project_path(path)
        if project_path is None:
            return declared
        directory = read_project_directory(project_path, artifacts.metadata.product_name)
        return max(declared, len(prepared_manifest(directory, path).asset_nodes))
    except (ManifestError, ProjectError):  # values can be generated without a prepared dbt project
        return declared
