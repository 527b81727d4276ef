"""The floe orchestrator plugin: one line per method, the work is done in the rooms behind it.

Nothing heavy is imported here: floe-core loads this module to list its plugins.
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_core.plugins.orchestrator import OrchestratorPlugin

if TYPE_CHECKING:
    import dagster as dg
    from floe_core.lineage import LineageDataset, RunState
    from floe_core.plugins.orchestrator import ResourceSpec, TransformConfig, ValidationResult
    from pydantic import BaseModel

    from floe_orchestrator_dagster.automation.cron import JobSchedule

logger = logging.getLogger(__name__)


class DagsterOrchestratorPlugin(OrchestratorPlugin):
    """Dagster as floe's orchestrator; found by floe-core as ``dagster`` in the group ``floe.orchestrators``."""

    def __init__(self) -> None:
        """Start unconfigured, without schedules."""
        super().__init__()
        self._schedules: list[JobSchedule] = []

    @property
    def name(self) -> str:
        """The name that a manifest.yaml selects: ``dagster``."""
        return "dagster"

    @property
    def version(self) -> str:
        """The installed distribution's version."""
        from floe_orchestrator_dagster import __version__

        return __version__

    @property
    def floe_api_version(self) -> str:
        """The plugin API this is written for."""
        return "1.0"

    @property
    def description(self) -> str:
        """One line for listings."""
        return "Runs floe data products in Dagster: dbt as assets and checks, with jobs and schedules."

    @property
    def tracer_name(self) -> str:
        """Name of the OpenTelemetry tracer."""
        return "floe.orchestrator.dagster"

    def get_config_schema(self) -> type[BaseModel]:
        """The model of ``plugins.orchestrator.config``."""
        from floe_orchestrator_dagster.config import DagsterConfig

        return DagsterConfig

    def create_definitions(self, artifacts: dict[str, Any]) -> dg.Definitions:
        """Build the Definitions of compiled artifacts, with the schedules registered so far.

        Raises:
            FloeDagsterError: Anything about the product that cannot be used.
        """
        from floe_orchestrator_dagster.code_location import definitions_from_artifacts

        return definitions_from_artifacts(artifacts, self._schedules)

    def create_assets_from_transforms(self, transforms: list[TransformConfig]) -> list[dg.AssetsDefinition]:
        """Make one asset per transform, each materializable on its own.

        Raises:
            ArtifactsError: Duplicate names, a self-dependency or a cycle.
        """
        from floe_orchestrator_dagster.assets.transforms import transform_assets

        return transform_assets(transforms)

    def get_helm_values(self) -> dict[str, Any]:
        """Return Helm values that deploy Dagster and one code location: floe's keys and the Dagster chart's own.

        Raises:
            DeployError: The configuration cannot be deployed.
        """
        from floe_orchestrator_dagster.config import DagsterConfig
        from floe_orchestrator_dagster.deploy.helm import helm_values

        return helm_values(self._config if isinstance(self._config, DagsterConfig) else None)

    def validate_connection(self) -> ValidationResult:
        """Ask the configured webserver for its version, within 10 s."""
        from floe_orchestrator_dagster.connection import DEFAULT_URL, validate_connection

        return validate_connection(getattr(self._config, "webserver_url", None) or DEFAULT_URL)

    def get_resource_requirements(self, workload_size: str) -> ResourceSpec:
        """Return the preset for ``small``, ``medium`` or ``large``.

        Raises:
            ValueError: Any other size.
        """
        from floe_orchestrator_dagster.deploy.resources import resource_requirements

        return resource_requirements(workload_size)

    def emit_lineage_event(  # noqa: PLR0913, PLR0917  # the ABC's signature
        self,
        event_type: RunState,
        job_name: str,
        job_namespace: str | None = None,
        run_id: uuid.UUID | None = None,
        inputs: list[LineageDataset] | None = None,
        outputs: list[LineageDataset] | None = None,
        run_facets: dict[str, Any] | None = None,
        job_facets: dict[str, Any] | None = None,
        producer: str | None = None,
    ) -> uuid.UUID:
        """Return the run's id; this version delivers no lineage, which a debug line says."""
        del job_namespace, inputs, outputs, run_facets, job_facets, producer
        logger.debug("this version delivers no lineage: %s of %s is not sent", event_type, job_name)
        return run_id or uuid.uuid4()

    def schedule_job(self, job_name: str, cron: str, timezone: str) -> None:
        """Register a schedule for the next :meth:`create_definitions`; the same one twice is one.

        Raises:
            ScheduleError: (a ValueError) A cron or timezone that cannot work. An unknown job is reported when the
                Definitions are built, where the product's jobs are known.
        """
        from floe_orchestrator_dagster.automation.cron import checked_schedule

        schedule = checked_schedule(job_name, cron, timezone)
        if schedule not in self._schedules:
            self._schedules.append(schedule)

    def generate_entry_point_code(
        self,
        product_name: str,
        output_dir: str,
        *,
        lineage_enabled: bool = False,
        iceberg_enabled: bool = False,
    ) -> str:
        """Write ``definitions.py`` beside the artifacts and return its path.

        The file reads lineage and Iceberg settings from the artifacts at load, so it is the same with or without.

        Raises:
            EntryPointError: (a ValueError) A bad name or directory, or somebody's own file in the way.
        """
        del lineage_enabled, iceberg_enabled
        from floe_orchestrator_dagster.deploy.entrypoint import write_entry_point

        return str(write_entry_point(product_name, Path(output_dir)))
