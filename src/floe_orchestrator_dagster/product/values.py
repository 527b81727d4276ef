"""The loaded product as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import EngineError
from floe_orchestrator_dagster.product.engines import DEFAULT_CHOICE, DbtEngine, EngineChoice, find_engine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts, ResolvedModel

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product.manifest import Manifest
    from floe_orchestrator_dagster.product.profiles import Profile
    from floe_orchestrator_dagster.product.project import ProjectDirectory
    from floe_orchestrator_dagster.product.spec import ProductSpec

_DEFAULT_DOMAIN = "default"


@dataclass(frozen=True)
class DbtConnection:
    """A dbt project directory, the profile to run it with, and the configured engine that runs it."""

    directory: ProjectDirectory
    profile: Profile
    choice: EngineChoice = field(default=DEFAULT_CHOICE, kw_only=True)

    @property
    def engine(self) -> DbtEngine:
        """The engine that the configuration selects in this environment.

        Raises:
            EngineError: There is none, or it cannot be used.
        """
        return find_engine(self.choice)

    @property
    def installed_engine(self) -> DbtEngine | None:
        """The engine; None if the configuration names none and none is installed.

        Raises:
            EngineError: The configuration names an engine that is not installed, or cannot be used.
        """
        try:
            return self.engine
        except EngineError:
            if self.choice == DEFAULT_CHOICE:
                return None
            raise

    @property
    def is_on_v2(self) -> bool:
        """Whether dbt v2 is the engine.

        Raises:
            EngineError: The configuration names an engine that is not installed, or cannot be used.
        """
        engine = self.installed_engine
        return engine is not None and engine.kind == "v2"


@dataclass(frozen=True)
class DbtProject(DbtConnection):
    """A dbt project that can be built: directory, profile and manifest.

    Attributes:
        manifest: dbt's manifest, trimmed.
        profiles: The profile of each compute, by the compute's name. They differ in their target.
        choices: The configured engine of each compute, by the compute's name.
    """

    manifest: Manifest
    profiles: Mapping[str, Profile]
    choices: Mapping[str, EngineChoice] = field(default_factory=dict, kw_only=True)

    def on(self, compute: str) -> DbtConnection:
        """Return the connection for a compute; the product's default one for an unknown compute."""
        profile, choice = self.profiles.get(compute, self.profile), self.choices.get(compute, self.choice)
        return DbtConnection(self.directory, profile, choice=choice)

    def is_parsed_otherwise(self, compute: str) -> bool:
        """Return whether a compute has another target or engine than the manifest."""
        own = self.on(compute)
        return (own.profile.target, own.choice) != (self.profile.target, self.choice)


@dataclass(frozen=True)
class Overrides:
    """Settings of one code location that take precedence over environment variables.

    Attributes:
        project_path: Directory of the dbt project, instead of ``FLOE_DBT_PROJECT_DIR``.
        environment: Output of the dbt profile, instead of ``FLOE_ENV``.
    """

    project_path: Path | None = None
    environment: str | None = None


NO_OVERRIDES = Overrides()


@dataclass(frozen=True)
class Product:
    """A loaded and validated data product.

    Attributes:
        path: The artifacts' file. For artifacts that were passed as an object: the file that locates the dbt project,
            or None.
        origin: Its name in messages: the artifacts' path, or the argument with their content.
        artifacts: The validated contract.
        config: The orchestrator's typed configuration.
        spec: Additional settings of floe.yaml.
        dbt: The dbt project; None when there is none, and then assets come from the contract alone.
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
        """The name as Dagster accepts it for jobs and groups, such as ``retail_orders``."""
        return self.name.replace("-", "_")

    @property
    def domain(self) -> str:
        """The domain of the contract; the label ``domain`` of floe.yaml where floe's compiler has left its default."""
        declared = self.artifacts.identity.domain
        return self.spec.labels.get("domain", declared) if declared == _DEFAULT_DOMAIN else declared

    @property
    def models(self) -> list[ResolvedModel]:
        """The declared models; empty when the product declares no transforms."""
        return self.artifacts.transforms.models if self.artifacts.transforms else []
