"""Sections of the configuration about assets, runs, dbt, lineage and deployment, as frozen pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from floe_orchestrator_dagster.config.crons import Timezone  # pydantic reads the annotations

CONFIG_PATH = "plugins.orchestrator.config"
CORRECT_IT = "Correct it in manifest.yaml."
"""The fix for a value of the configuration, at the end of a more specific one."""

KeyPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=128)]
Text = Annotated[str, Field(min_length=1)]
Word = Annotated[str, Field(min_length=1, pattern=r"^\S*$")]
WebPage = Annotated[str, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/]\S*$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
BuildMode = Literal["all", "changed"]
Consumer = Literal["exposures", "semantic_models", "metrics", "saved_queries"]
# Materializations whose rows are counted by default. A count of a view runs its query.
_COUNTED = frozenset({"table", "incremental", "seed", "snapshot", "materialized_view"})
PodSize = Literal["small", "medium", "large"]
Directory = Annotated[str, Field(pattern=r"^(/|~/)")]
StateUrl = Annotated[str, Field(pattern=r"^(/|~/|[A-Za-z][A-Za-z0-9+.-]*://|\{\{)")]


class Section(BaseModel):
    """A part of the configuration: frozen, strict, without unknown keys; docstrings describe its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def config_path(*location: int | str) -> str:
    """Name a place in the configuration, such as ``plugins.orchestrator.config.jobs[0].name``."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{CONFIG_PATH}{path}"


class RetriesConfig(Section):
    """Retries of failed steps (https://docs.dagster.io/api/dagster/ops#dagster.RetryPolicy)."""

    max_retries: int = Field(ge=0, le=100)
    """Maximum number of retries."""
    delay_seconds: float = Field(default=0, ge=0)
    """Seconds before a retry."""
    backoff: Literal["linear", "exponential"] | None = None
    """Growth of the delay with each retry; constant by default."""
    jitter: Literal["full", "plus_minus"] | None = None
    """Random variation of the delay; none by default."""


class ConcurrencyConfig(Section):
    """The pool of all dbt steps of the product."""

    pool: Word
    """Name of the pool (https://docs.dagster.io/guides/operate/managing-concurrency)."""
    limit: int | None = Field(default=None, ge=1)
    """Number of slots. Pools are part of the Dagster instance: ``floe-dagster plan`` prints the command for it."""


class PodResources(Section):
    """CPU and memory of a pod on Kubernetes; single values take precedence over the preset of ``size``."""

    size: PodSize | None = None
    """Preset of CPU and memory."""
    cpu_request: Quantity | None = None
    """Such as ``500m``."""
    cpu_limit: Quantity | None = None
    """Such as ``2``."""
    memory_request: Quantity | None = None
    """Such as ``512Mi``."""
    memory_limit: Quantity | None = None
    """Such as ``2Gi``."""


def _size(value: object) -> object:
    return {"size": value} if isinstance(value, str) else value


Resources = Annotated[PodResources, BeforeValidator(_size, json_schema_input_type=PodSize | PodResources)]


class StepConfig(Section):
    """A part of the product that is built by separate steps, or a rule that divides the product into such parts."""

    select: Text | None = None
    """dbt selection of the part's assets."""
    exclude: Text | None = None
    """dbt selection of the assets to leave out."""
    name: Name | None = None
    """Name of the part in the names of its steps; by default its number."""
    by: Literal["group", "folder", "layers"] | None = None
    """Instead of a selection: one part per dbt group, or per folder in the dbt project, or layers across the graph."""
    max: int = Field(default=8, ge=1, le=100)
    """Maximum number of parts, with ``by``."""
    resources: Resources | None = None
    """CPU and memory of the pods of its steps with the executor ``k8s``: a preset such as ``large``, or single values.
    Values that are not set come from ``run_resources``."""


def in_a_list(value: object) -> object:
    """Return a list with a single mapping; any other value unchanged."""
    return [value] if isinstance(value, dict) else value


Steps = Annotated[list[StepConfig], BeforeValidator(in_a_list, json_schema_input_type=StepConfig | list[StepConfig])]


class PartitionVars(Section):
    """Names of the dbt variables with the partition, for models that are not microbatch."""

    start: Text = "start_date"
    """Variable with the first instant of the window."""
    end: Text = "end_date"
    """Variable with the first instant after the window."""
    key: Text = "partition_key"
    """Variable with the key of a static partition."""


class PartitionsConfig(Section):
    """Partitions of some of the product's assets."""

    select: Text
    """dbt selection of the assets."""
    exclude: Text | None = None
    """dbt selection of the assets to leave out."""
    type: Literal["hourly", "daily", "weekly", "monthly", "static"]
    """Length of a partition, or ``static`` for the keys in ``values``."""
    start: Text | None = None
    """First partition, such as ``2026-01-01`` (``2026-01-01-00:00`` for hourly ones)."""
    end: Text | None = None
    """First instant after the last partition; no end by default."""
    timezone: Timezone | None = None
    """IANA name. The default is the configuration's ``timezone``."""
    end_offset: int = Field(default=0, ge=-10_000, le=10_000)
    """Number of partitions after the last complete one: 1 includes the current day."""
    values: list[Text] = Field(default_factory=list)
    """Keys of static partitions."""
    vars: PartitionVars = PartitionVars()
    """Names of the dbt variables with the partition."""
    time_column: Text | None = None
    """Column with the partition's time; shown on the asset, and read by I/O managers."""


EngineName = Literal["auto", "core", "v2"]


class ComputeConfig(Section):
    """Connection of a compute, and the dbt engine that runs its models."""

    model_config = ConfigDict(extra="allow")

    engine: EngineName | None = None
    """dbt engine of this compute. The default is ``dbt.engine``. All other keys are the connection."""

    @property
    def connection(self) -> dict[str, Any] | None:
        """The connection: all keys but ``engine``. None when only the engine is configured."""
        connection = dict(self.model_extra or {})
        return None if self.engine is not None and not connection else connection


class DbtConfig(Section):
    """Settings of dbt's runs in the product's steps."""

    engine: EngineName = "auto"
    """dbt engine: ``core`` is the dbt-core 1.x of this Python environment, ``v2`` the executable of dbt v2. ``auto``
    selects dbt v2 if ``executable`` is set; else dbt-core if it is installed, else dbt v2."""
    executable: Text | None = None
    """Executable of dbt v2, as a name on the PATH or a path. The default is the first ``dbt`` of version 2."""
    timeout_seconds: int | None = Field(default=None, ge=1)
    """Maximum duration of a dbt invocation, which is then terminated; no limit by default."""
    columns: bool = True
    """Whether to query the names and types of a built table's columns, and show them on its asset."""
    row_counts: Literal[True, False, "all"] = True
    """Whether to query the number of a built table's rows, and show it on its asset. ``all`` counts the rows of views,
    too, which runs their queries."""
    failed_rows: int = Field(default=0, ge=0, le=100)
    """Number of rows to store in Dagster, on a check, of those that its test found; only with dbt-core."""
    keep_targets: int = Field(default=3, ge=1)
    """Number of target directories to keep, of invocations that succeeded."""
    keep_failed_targets: int = Field(default=20, ge=1)
    """Number of target directories to keep, of invocations that failed."""
    enable_duplicate_source_asset_keys: bool = False
    """Whether several sources may have the same asset key, as in dagster-dbt's setting of this name."""
    attach_artifacts: bool = False
    """Whether to store each invocation's artifacts as an archive in the Dagster instance's storage."""

    @property
    def counted_materializations(self) -> frozenset[str]:
        """The materializations whose rows are counted."""
        if self.row_counts == "all":
            return _COUNTED | {"view"}
        return _COUNTED if self.row_counts else frozenset()


class LineageConfig(Section):
    """Names, storage and delivery of lineage events."""

    enabled: bool = True
    """Whether to send lineage events to the configured backend."""
    strict: bool = False
    """Whether a step fails if the backend has not accepted its events by the end of the step; a warning by default."""
    spool_dir: Directory | None = None
    """Absolute directory (or below ``~/``) that stores events until the backend has accepted them; each product uses a
    subdirectory. The default is ``$FLOE_STATE_DIR/<product>/lineage``, else a directory in ``~/.local/state/floe``."""
    spool_max_mb: int = Field(default=256, ge=1)
    """Maximum size of the product's spool in MB."""
    flush_seconds: float = Field(default=5, ge=0, le=60)
    """Seconds that a step waits at its end for undelivered events."""
    timeout_seconds: float = Field(default=2, gt=0, le=30)
    """Timeout of a request to the backend in seconds."""
    namespaces: dict[Text, Text] = Field(default_factory=dict)
    """Replacements of dataset namespaces, such as ``postgres://10.0.0.7:5432: postgres://warehouse:5432``."""


class StateConfig(Section):
    """Publication of what production has built, with which pull requests are compared."""

    url: StateUrl = Field(examples=["s3://example-bucket/dbt-state"])
    """Absolute directory (or below ``~/``), or a URL of fsspec. It may contain ``{{ env_var('NAME') }}``; runs publish
    nothing where that variable is not set."""
    keep: int = Field(default=10, ge=1, le=1000)
    """Number of states to keep for each environment."""
    production: Text | None = Field(default=None, examples=["prod"])
    """Output of the dbt profile in production, with whose state changes are compared. The default is the profile's
    own ``target``."""


class DeployConfig(Section):
    """Settings of the Helm values that ``floe-dagster helm`` prints."""

    size: PodSize = "medium"
    """Preset of CPU and memory of webserver and code server; the daemon gets the next smaller size."""
    image: Text | None = Field(default=None, examples=["registry.example.com/retail-orders:1.4.0"])
    """The product's image, with a tag or a digest."""
    webserver: PodResources | None = None
    """CPU and memory of the webserver's pods."""
    daemon: PodResources | None = None
    """CPU and memory of the daemon's pod."""
    user_code: PodResources | None = None
    """CPU and memory of the product's code server, and of its run pods when ``run_resources`` is not set."""


class HeaderConfig(Section):
    """A header whose value is a secret in an environment variable."""

    name: HeaderName
    """Name of the header, such as ``Authorization``."""
    variable: VariableName
    """Environment variable with its value, such as ``DAGSTER_AUTHORIZATION``."""
