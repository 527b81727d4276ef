"""A product, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts, ResolvedModel

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product.manifest import Manifest
    from floe_orchestrator_dagster.product.profiles import Profile
    from floe_orchestrator_dagster.product.project import ProjectDirectory
    from floe_orchestrator_dagster.product.spec import ProductSpec


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
