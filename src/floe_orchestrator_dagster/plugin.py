"""The floe orchestrator plugin, whose methods delegate to other modules.

This module does not import dagster or dbt, because floe-core loads it to list its plugins.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_core.lineage import LineageJob
from floe_core.plugins.orchestrator import OrchestratorPlugin

from floe_orchestrator_dagster.telemetry import TRACER_NAME, traced

if TYPE_CHECKING:
    import uuid

    import dagster as dg
    from floe_core.lineage import LineageDataset, LineageEmitter, RunState
    from floe_core.plugin_metadata import HealthStatus
    from floe_core.plugins.orchestrator import ResourceSpec, TransformConfig, ValidationResult
    from pydantic import BaseModel

    from floe_orchestrator_dagster.automation.cron import JobSchedule
    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.lineage.delivery.plugin_lineage import PluginLineage


class DagsterOrchestratorPlugin(OrchestratorPlugin):
    """Dagster as floe's orchestrator; found by floe-core as ``dagster`` in the group ``floe.orchestrators``."""

    def __init__(self) -> None:
        """Start unconfigured, without schedules."""
        super().__init__()
        self._schedules: list[JobSchedule] = []
        self._artifacts: dict[str, Any] | None = None
        self._lineage: PluginLineage | None = None

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
        """The version of floe's plugin API that this plugin implements."""
        return "1.0"

    @property
    def description(self) -> str:
        """The description in floe's list of plugins."""
        return "Runs floe data products in Dagster: dbt as assets and checks, with jobs and schedules."

    @property
    def tracer_name(self) -> str:
        """Name of the OpenTelemetry tracer."""
        return TRACER_NAME

    def get_config_schema(self) -> type[BaseModel]:
        """The model of ``plugins.orchestrator.config``."""
        from floe_orchestrator_dagster.config import DagsterConfig

        return DagsterConfig

    def create_definitions(self, artifacts: dict[str, Any]) -> dg.Definitions:
        """Build the Definitions of compiled artifacts, with the schedules registered so far.

        Raises:
            FloeDagsterError: A part of the product is missing or not valid.
        """
        from floe_orchestrator_dagster.code_location import definitions_from_artifacts

        definitions = definitions_from_artifacts(artifacts, self._schedules)
        self._close_lineage()
        self._artifacts = artifacts
        return definitions

    @traced("translate")
    def create_assets_from_transforms(self, transforms: list[TransformConfig]) -> list[dg.AssetsDefinition]:
        """Create one asset per transform; each can be materialized separately.

        Raises:
            ArtifactsError: Duplicate names, a self-dependency or a cycle.
        """
        from floe_orchestrator_dagster.assets.transforms import transform_assets

        return transform_assets(transforms)

    @traced("helm_values")
    def get_helm_values(self) -> dict[str, Any]:
        """Return Helm values that deploy Dagster and one code location: floe's keys and the Dagster chart's own.

        Raises:
            DeployError: The configuration cannot be deployed.
        """
        from floe_orchestrator_dagster.config import DagsterConfig
        from floe_orchestrator_dagster.deploy.helm import helm_values

        return helm_values(self._config if isinstance(self._config, DagsterConfig) else None)

    def validate_connection(self, dagster_url: str | None = None, timeout: float = 10.0) -> ValidationResult:
        """Check that a webserver responds, within ``timeout`` wall-clock seconds.

        The address is the argument, the configured ``webserver_url``, ``DAGSTER_URL`` or http://localhost:3000.

        Raises:
            ValueError: The timeout is not a positive number of seconds.
        """
        from floe_orchestrator_dagster.connection import validate_connection

        return validate_connection(dagster_url, timeout, self._dagster_config)

    @traced("health_check")
    def health_check(self, timeout: float | None = None) -> HealthStatus:
        """Return the state of product, dbt and webserver, within ``timeout`` seconds (just below 5 by default).

        Raises:
            ValueError: The timeout is not a positive number of seconds.
        """
        from floe_orchestrator_dagster.health import DEFAULT_TIMEOUT_SECONDS, check_health

        return check_health(DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout, self._dagster_config)

    @traced("resource_requirements")
    def get_resource_requirements(self, workload_size: str) -> ResourceSpec:
        """Return the preset for ``small``, ``medium`` or ``large``.

        Raises:
            ValueError: The size is none of these.
        """
        from floe_orchestrator_dagster.deploy.resources import resource_requirements

        return resource_requirements(workload_size)

    @traced("emit_lineage_event")
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
        """Send an event to the product's lineage backend, in the background, and return its run's id.

        The product is the one of the last :meth:`create_definitions`, else that of ``FLOE_ARTIFACTS_PATH``. Without a
        backend nothing is sent. Events that the backend does not accept are stored and sent later.

        Raises:
            LineageError: With ``lineage.strict``, when the backend does not accept the event.
        """
        lineage = self._open_lineage()
        return lineage.emit(
            event_type,
            run_id,
            LineageJob(namespace=job_namespace or lineage.namespace, name=job_name, facets=job_facets or {}),
            inputs=inputs,
            outputs=outputs,
            run_facets=run_facets,
            producer=producer,
        )

    def get_lineage_emitter(self) -> LineageEmitter | None:
        """Return floe-core's emitter, which uses the same delivery; None when no lineage backend is configured."""
        return self._open_lineage().floe_emitter()

    def shutdown(self) -> None:
        """Send all pending spans, metrics and lineage events; lineage within ``lineage.flush_seconds``."""
        from floe_orchestrator_dagster.telemetry.sending import flush

        self._close_lineage()
        flush()

    def _close_lineage(self) -> None:
        lineage, self._lineage = self._lineage, None
        if lineage is not None:
            lineage.close()

    def _open_lineage(self) -> PluginLineage:
        from floe_orchestrator_dagster.lineage.delivery.plugin_lineage import PluginLineage

        self._lineage = self._lineage or PluginLineage(self._artifacts)
        return self._lineage

    @traced("schedule_job")
    def schedule_job(self, job_name: str, cron: str, timezone: str) -> None:
        """Register a schedule for the next :meth:`create_definitions`. A repeated schedule is registered once.

        Raises:
            ScheduleError: (a ValueError) The cron or timezone is not valid. An unknown job raises an error later, in
                :meth:`create_definitions`, because the product's jobs are not known before.
        """
        from floe_orchestrator_dagster.automation.cron import checked_schedule

        schedule = checked_schedule(job_name, cron, timezone)
        if schedule not in self._schedules:
            self._schedules.append(schedule)

    @traced("generate_entry_point_code")
    def generate_entry_point_code(
        self,
        product_name: str,
        output_dir: str,
        *,
        lineage_enabled: bool = False,
        iceberg_enabled: bool = False,
    ) -> str:
        """Write ``definitions.py`` beside the artifacts and return its path.

        The file is the same with and without lineage and Iceberg: these settings are read from the artifacts at load.

        Raises:
            EntryPointError: (a ValueError) The name or directory is not valid, or the file exists and floe did not
                generate it.
        """
        del lineage_enabled, iceberg_enabled
        from floe_orchestrator_dagster.deploy.entrypoint import write_entry_point

        return str(write_entry_point(product_name, Path(output_dir)))

    @property
    def _dagster_config(self) -> DagsterConfig | None:
        """The configuration from floe-core; None without one."""
        from floe_orchestrator_dagster.config import DagsterConfig

        return self._config if isinstance(self._config, DagsterConfig) else None
