"""The orchestrator's configuration: ``plugins.orchestrator.config`` of the artifacts, typed.

Values that depend on the product (a job's name, a dbt selection) are checked in the modules that use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field

from floe_orchestrator_dagster.config.automation import AlertConfig, JobConfig, Rules, ScheduleConfig, SensorConfig  # noqa: TC001
from floe_orchestrator_dagster.config.crons import Cron, Timezone  # noqa: TC001  # pydantic reads the annotations
from floe_orchestrator_dagster.config.models import (
    CONFIG_PATH,
    BuildMode,
    ComputeConfig,
    ConcurrencyConfig,
    Consumer,
    DbtConfig,
    DeployConfig,
    HeaderConfig,
    KeyPart,
    LineageConfig,
    PartitionsConfig,
    PodResources,
    RetriesConfig,
    Section,
    StateConfig,
    Steps,
    Text,
    WebPage,
    config_path,
)
from floe_orchestrator_dagster.config.reading import Reading, read_settings
from floe_orchestrator_dagster.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CONFIG_PATH",
    "DagsterConfig",
    "config_path",
    "config_schema",
    "examine_config",
    "manifest_schema",
    "read_config",
]

_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class DagsterConfig(Section):
    """A platform team's settings for Dagster in floe's manifest.yaml."""

    default_schedule: Cron | None = Field(default=None, examples=["0 6 * * *"])
    """Cron of the product's schedule when floe.yaml declares none."""
    timezone: Timezone = Field(default="UTC", examples=["Europe/Berlin"])
    """IANA timezone of ``default_schedule``, and the default timezone of schedules, rules and partitions."""
    schedules: list[ScheduleConfig] = Field(default_factory=list)
    """Schedules besides the product's own."""
    jobs: list[JobConfig] = Field(default_factory=list)
    """Jobs besides the product's own."""
    automation: Rules = Field(default_factory=list)
    """Assets that Dagster materializes by itself: one rule, or a list in which the first matching rule applies."""
    sensors: list[SensorConfig] = Field(default_factory=list)
    """Sensors that launch jobs."""
    alerts: list[AlertConfig] = Field(default_factory=list)
    """Channels for messages about broken assets, checks and jobs, late data, and their recovery."""
    key_prefix: list[KeyPart] = Field(default_factory=list, examples=[["retail"]])
    """Prefix of every asset key, for code locations that share model names."""
    group_by: Literal["dbt_group", "product", "tier", "folder"] = "dbt_group"
    """Group of an asset: its dbt group (the product for assets without one), the product, the quality tier, or the
    folder in the dbt project."""
    retries: RetriesConfig | None = None
    """Retries of failed steps."""
    timeout_seconds: int | None = Field(default=None, ge=1)
    """Maximum duration of a run; no limit by default."""
    concurrency: ConcurrencyConfig | None = None
    """The pool of the product's dbt steps."""
    executor: Literal["in_process", "multiprocess", "k8s"] | None = None
    """How the steps of a run are executed."""
    steps: Steps = Field(default_factory=list)
    """Parts of the product that are built by separate steps: selections, or one rule that divides the whole product. By
    default, one step builds all models of a compute."""
    build: BuildMode = "all"
    """Extent of runs: ``all``, or ``changed`` to reuse tables whose code and inputs have not changed since they were
    built. Jobs, schedules and single runs can choose differently."""
    full_refresh_on_change: bool = False
    """Whether a run with ``build: changed`` passes ``--full-refresh`` to dbt if it builds an incremental model whose
    code has changed. By default, such models run incrementally, and the run's log warns."""
    assume_unchanged: list[Text] = Field(default_factory=list, examples=[["shop.countries"]])
    """Sources whose rows never change, as ``source.table`` or ``source``, for ``build: changed``."""
    on_run_hooks: Literal["with_builds", "always"] = "with_builds"
    """Whether dbt's on-run hooks run only if a run with ``build: changed`` builds or tests something, or always."""
    partitions: list[PartitionsConfig] = Field(default_factory=list)
    """Partitions of some assets."""
    computes: dict[Text, ComputeConfig] = Field(default_factory=dict)
    """Connections of computes without an output in the compiled profile, and the dbt engines of computes, by the
    compute's name."""
    run_resources: PodResources | None = None
    """CPU and memory of a run's pod on Kubernetes."""
    dbt: DbtConfig = DbtConfig()
    """Settings of dbt's runs."""
    deploy: DeployConfig = Field(default_factory=DeployConfig)
    """Deployment of Dagster on Kubernetes."""
    sources: Literal["used", "all"] = "used"
    """The dbt sources that are assets: those that a node of the dbt project reads, that have freshness limits, or that
    the contract, a sensor or ``meta.dagster`` names; or all."""
    consumers: list[Consumer] = Field(default_factory=lambda: [*get_args(Consumer)], examples=[["exposures"]])
    """Readers of models that are external assets: exposures, semantic models, metrics and saved queries of the dbt
    project. All of them by default."""
    source_freshness: Literal["on_demand", "in_product_job"] = "on_demand"
    """Whether ``dbt source freshness`` runs on demand only, or also in the product's job."""
    lineage: LineageConfig = LineageConfig()
    """Delivery of lineage events."""
    state: StateConfig | None = None
    """Publication of what production has built."""
    auto_compile: bool = False
    """Whether ``dagster dev`` compiles the product when floe.yaml or manifest.yaml has changed."""
    docs_url: WebPage | None = Field(default=None, examples=["https://docs.example.com/retail"])
    """URL of the product's dbt docs; assets link to it."""
    webserver_url: str | None = Field(default=None, examples=["http://dagster-webserver:3000"])
    """URL of the Dagster webserver, for links in alerts and for the connection check."""
    webserver_headers: list[HeaderConfig] = Field(default_factory=list)
    """Headers of the connection check's requests, for a webserver that requires a login."""

    @property
    def builds_changed(self) -> bool:
        """Whether some runs of the product build only what has changed, so that all of them record their builds."""
        jobs, schedules = (job.build for job in self.jobs), (schedule.build for schedule in self.schedules)
        return "changed" in {self.build, *jobs, *schedules, *(rule.condition for rule in self.automation)}


def read_config(values: Mapping[str, object] | None, origin: str) -> DagsterConfig:
    """Validate the configuration in the artifacts; ``None`` means all defaults.

    Raises:
        ConfigError: Keys are unknown, values are not valid, or settings contradict each other. The message lists all.
    """
    reading = examine_config(values)
    if reading.problems:
        raise ConfigError(origin, reading.problems)
    return reading.config


def examine_config(values: Mapping[str, object] | None) -> Reading[DagsterConfig]:
    """Read the valid part of the configuration, and all its problems."""
    return read_settings(DagsterConfig, dict(values or {}))


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration, with a description of every key."""
    return {"$schema": _SCHEMA_DIALECT, **DagsterConfig.model_json_schema()}


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema of a manifest.yaml that describes this configuration and allows any other keys."""
    section = config_schema()
    definitions = section.pop("$defs")
    dialect = section.pop("$schema")
    for key in reversed(CONFIG_PATH.split(".")):
        section = {"type": "object", "properties": {key: section}}
    return {"$schema": dialect, "title": "Manifest", "$defs": definitions, **section}
