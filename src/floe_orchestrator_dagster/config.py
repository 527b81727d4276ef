"""The orchestrator's configuration: ``plugins.orchestrator.config`` of the artifacts, typed.

What depends on the product (a job's name, a dbt selection, a cron) is checked where it is used.
"""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from floe_orchestrator_dagster.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

CONFIG_PATH = "plugins.orchestrator.config"
_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FIX = "Correct it in manifest.yaml."

KeyPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=128)]
Text = Annotated[str, Field(min_length=1)]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class JobConfig(_Section):
    """A job over a part of the product, besides the product's own job."""

    name: Name
    """Name of the job."""
    select: Text = "fqn:*"
    """dbt selection (https://docs.getdbt.com/reference/node-selection/syntax), such as ``tag:daily+``."""
    exclude: Text | None = None
    """dbt selection of what is left out."""
    description: str | None = None
    """Shown on the job's page."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of its runs."""


class ScheduleConfig(_Section):
    """A schedule besides the product's own."""

    name: Name
    """Name of the schedule."""
    cron: Text
    """Five fields or a macro such as ``@daily``."""
    timezone: Text | None = None
    """IANA name; the configuration's ``timezone`` when left out."""
    job: Name | None = None
    """Job to run; the product's own when left out."""
    select: Text | None = None
    """dbt selection of what it builds; everything the job has when left out."""
    exclude: Text | None = None
    """dbt selection of what it leaves out."""
    enabled: bool = True
    """Whether it is running once the code location is loaded."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of its runs."""


class AutomationConfig(_Section):
    """When Dagster materializes assets by itself (declarative automation)."""

    condition: Literal["eager", "on_cron", "on_missing"]
    """``eager`` (upstream changed), ``on_cron`` (after a tick, once upstream is there) or ``on_missing``."""
    select: Text = "fqn:*"
    """dbt selection of the assets."""
    exclude: Text | None = None
    """dbt selection of what is left out."""
    cron: Text | None = None
    """The tick of ``on_cron``."""
    timezone: Text | None = None
    """IANA name; the configuration's ``timezone`` when left out."""

    @model_validator(mode="after")
    def _cron_belongs_to_on_cron(self) -> AutomationConfig:
        if (self.condition == "on_cron") != (self.cron is not None):
            raise ValueError("`cron` goes with condition on_cron, and only with it")
        return self


class RunStatusSensorConfig(_Section):
    """A sensor that launches a job when a run has ended."""

    type: Literal["run_status"]
    """``run_status``."""
    name: Name
    """Name of the sensor."""
    status: Literal["success", "failure", "canceled"]
    """The status that it waits for."""
    jobs: list[Name] = Field(default_factory=list)
    """Jobs of the product whose runs it watches; the product's own job when empty."""
    job: Name
    """Job that it launches."""
    enabled: bool = True
    """Whether it is running once the code location is loaded."""


class AssetSensorConfig(_Section):
    """A sensor that launches a job when an asset, of this or another code location, was materialized."""

    type: Literal["asset"]
    """``asset``."""
    name: Name
    """Name of the sensor."""
    asset: Text
    """The asset's key, its parts joined by slashes."""
    job: Name | None = None
    """Job that it launches; the product's own when left out."""
    enabled: bool = True
    """Whether it is running once the code location is loaded."""


SensorConfig = Annotated[RunStatusSensorConfig | AssetSensorConfig, Field(discriminator="type")]


class RetriesConfig(_Section):
    """How often a failed step is tried again (https://docs.dagster.io/api/dagster/ops#dagster.RetryPolicy)."""

    max_retries: int = Field(ge=0, le=100)
    """Tries after the first."""
    delay_seconds: float = Field(default=0, ge=0)
    """Wait before a try."""
    backoff: Literal["linear", "exponential"] | None = None
    """How the wait grows; it stays when left out."""
    jitter: Literal["full", "plus_minus"] | None = None
    """How the wait is spread; not at all when left out."""


class ConcurrencyConfig(_Section):
    """The pool that all dbt steps of the product take a slot of."""

    pool: Text
    """Name of the pool (https://docs.dagster.io/guides/operate/managing-concurrency)."""
    limit: int | None = Field(default=None, ge=1)
    """Slots it should have. Pools live in the Dagster instance: ``floe-dagster plan`` prints the command."""


class PartitionVars(_Section):
    """Names of the dbt variables that carry a partition to models that are not microbatch."""

    start: Text = "start_date"
    """First instant of the window."""
    end: Text = "end_date"
    """First instant after the window."""
    key: Text = "partition_key"
    """The key, for static partitions."""


class PartitionsConfig(_Section):
    """Partitions of some of the product's assets."""

    select: Text
    """dbt selection of the assets."""
    exclude: Text | None = None
    """dbt selection of what is left out."""
    type: Literal["hourly", "daily", "weekly", "monthly", "static"]
    """Length of a partition, or ``static`` for the keys in ``values``."""
    start: Text | None = None
    """First partition, such as ``2026-01-01`` (``2026-01-01-00:00`` for hourly ones)."""
    end: Text | None = None
    """First instant that is no partition any more; open when left out."""
    timezone: Text | None = None
    """IANA name; the configuration's ``timezone`` when left out."""
    end_offset: int = 0
    """Partitions beyond the last complete one: 1 includes the running day."""
    values: list[Text] = Field(default_factory=list)
    """Keys of static partitions."""
    vars: PartitionVars = PartitionVars()
    """Names of the dbt variables that carry the partition."""
    time_column: Text | None = None
    """Column that a partition is cut by; shown on the asset, for I/O managers and people."""

    @model_validator(mode="after")
    def _static_has_values_and_time_has_a_start(self) -> PartitionsConfig:
        if self.type == "static" and (not self.values or len(set(self.values)) < len(self.values)):
            raise ValueError("static partitions need `values`, each once")
        if self.type == "static" and (self.start or self.end or self.timezone or self.end_offset):
            raise ValueError("static partitions have no start, end, timezone or end_offset")
        if self.type != "static" and (self.start is None or self.values):
            raise ValueError("time partitions need a `start` and have no `values`")
        return self


class RunResources(_Section):
    """What a run's pod asks for on Kubernetes; single values win over the size's."""

    size: Literal["small", "medium", "large"] | None = None
    """Preset of CPU and memory."""
    cpu_request: Quantity | None = None
    """Such as ``500m``."""
    cpu_limit: Quantity | None = None
    """Such as ``2``."""
    memory_request: Quantity | None = None
    """Such as ``512Mi``."""
    memory_limit: Quantity | None = None
    """Such as ``2Gi``."""


def _in_a_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


Rules = Annotated[
    list[AutomationConfig],
    BeforeValidator(_in_a_list, json_schema_input_type=AutomationConfig | list[AutomationConfig]),
]


class DagsterConfig(_Section):
    """What a platform team can set for Dagster in floe's manifest.yaml."""

    default_schedule: Text | None = Field(default=None, examples=["0 6 * * *"])
    """Cron of the product's schedule when floe.yaml declares none."""
    timezone: str = Field(default="UTC", examples=["Europe/Berlin"])
    """IANA timezone of ``default_schedule``, and of everything below that names none."""
    schedules: list[ScheduleConfig] = Field(default_factory=list)
    """Schedules besides the product's own."""
    jobs: list[JobConfig] = Field(default_factory=list)
    """Jobs besides the product's own."""
    automation: Rules = Field(default_factory=list)
    """Assets that Dagster materializes by itself; one rule, or a list in which the first that fits counts."""
    sensors: list[SensorConfig] = Field(default_factory=list)
    """What else launches jobs."""
    key_prefix: list[KeyPart] = Field(default_factory=list, examples=[["retail"]])
    """Prefix of every asset key, for code locations that share model names."""
    group_by: Literal["dbt_group", "product", "tier", "folder"] = "dbt_group"
    """What an asset's group is: the dbt group (the product where there is none), the product, the quality tier, or the
    folder in the dbt project."""
    retries: RetriesConfig | None = None
    """How often a failed step is tried again."""
    timeout_seconds: int | None = Field(default=None, ge=1)
    """How long a run may take."""
    concurrency: ConcurrencyConfig | None = None
    """The pool of the product's dbt steps."""
    executor: Literal["in_process", "multiprocess", "k8s"] | None = None
    """How the steps of a run are executed."""
    partitions: list[PartitionsConfig] = Field(default_factory=list)
    """Partitions of some assets."""
    computes: dict[Text, dict[str, Any]] = Field(default_factory=dict)
    """Connection of a compute that the compiled profile has no output for, by the compute's name."""
    run_resources: RunResources | None = None
    """What a run's pod asks for on Kubernetes."""
    source_freshness: Literal["on_demand", "in_product_job"] = "on_demand"
    """Whether ``dbt source freshness`` runs on demand only, or in the product's job too."""
    docs_url: Text | None = Field(default=None, examples=["https://docs.example.com/retail"])
    """Where the product's dbt docs are served; assets link to it."""
    webserver_url: str | None = Field(default=None, examples=["http://dagster-webserver:3000"])
    """Where the Dagster webserver answers, for the connection check."""


def read_config(values: Mapping[str, object] | None, origin: str) -> DagsterConfig:
    """Validate the configuration found in the artifacts; ``None`` means all defaults.

    Raises:
        ConfigError: Unknown keys, wrong types, settings that contradict each other: all of them at once.
    """
    try:
        config = DagsterConfig.model_validate(dict(values or {}))
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors(include_url=False)]
        raise ConfigError(origin, problems) from None
    problems = list(_overlaps(config))
    if problems:
        raise ConfigError(origin, problems)
    return config


def config_schema() -> dict[str, Any]:
    """Make the JSON schema of the configuration, with a description of every key."""
    return {"$schema": _SCHEMA_DIALECT, **DagsterConfig.model_json_schema()}


def manifest_schema() -> dict[str, Any]:
    """Make the JSON schema of a manifest.yaml in which only this configuration is described."""
    section = config_schema()
    definitions = section.pop("$defs")
    dialect = section.pop("$schema")
    for key in reversed(CONFIG_PATH.split(".")):
        section = {"type": "object", "properties": {key: section}}
    return {"$schema": dialect, "title": "Manifest", "$defs": definitions, **section}


def config_path(*location: int | str) -> str:
    """Name a place in the configuration, such as ``plugins.orchestrator.config.jobs[0].name``."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{CONFIG_PATH}{path}"


def _overlaps(config: DagsterConfig) -> Iterator[Problem]:
    yield from _repeated("jobs", (job.name for job in config.jobs))
    yield from _repeated("schedules", (schedule.name for schedule in config.schedules))
    yield from _repeated("sensors", (sensor.name for sensor in config.sensors))
    for row, schedule in enumerate(config.schedules):
        if schedule.job is not None and (schedule.select or schedule.exclude):
            what = f"schedule {schedule.name!r} names a job and a selection"
            fix = "Keep one: `job` runs a job whole, `select`/`exclude` run a part of the product's own job."
            yield Problem(config_path("schedules", row), what, fix)


def _repeated(section: str, names: Iterable[str]) -> Iterator[Problem]:
    listed = list(names)
    for name, count in Counter(listed).items():
        if count > 1:
            rows = ", ".join(str(row) for row, other in enumerate(listed) if other == name)
            what = f"the name {name!r} is used {count} times (entries {rows})"
            yield Problem(config_path(section), what, f"Give each a name of its own. {_FIX}")


_SECTIONS: Mapping[str, type[BaseModel]] = {
    "": DagsterConfig,
    "jobs": JobConfig,
    "schedules": ScheduleConfig,
    "automation": AutomationConfig,
    "sensors.run_status": RunStatusSensorConfig,
    "sensors.asset": AssetSensorConfig,
    "retries": RetriesConfig,
    "concurrency": ConcurrencyConfig,
    "partitions": PartitionsConfig,
    "partitions.vars": PartitionVars,
    "run_resources": RunResources,
}


def _problem(details: ErrorDetails) -> Problem:
    # A sensor's location names its type too, which is no place in the file.
    tagged = details["loc"]
    where = config_path(*(tagged[:2] + tagged[3:] if tagged[0] == "sensors" else tagged))
    if details["type"] == "missing":
        return Problem(where, "is missing", _FIX)
    if details["type"] == "value_error":
        return Problem(where, details["msg"].removeprefix("Value error, "), _FIX)
    if details["type"] != "extra_forbidden":
        found = f", not {type(details['input']).__name__}" if details["type"].endswith("_type") else ""
        return Problem(where, f"{details['msg']}{found}", _FIX)
    section = ".".join(part for part in tagged[:-1] if isinstance(part, str))
    known = sorted(_SECTIONS[section].model_fields)
    close = get_close_matches(str(tagged[-1]), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return Problem(where, "unknown key", f"{hint}Known keys: {', '.join(known)}. {_FIX}")
