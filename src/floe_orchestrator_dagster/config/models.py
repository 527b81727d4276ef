"""Sections of the configuration, as frozen pydantic models; those of jobs, sensors and rules are in ``automation``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from floe_orchestrator_dagster.config.ticks import Timezone

CONFIG_PATH = "plugins.orchestrator.config"

KeyPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=128)]
Text = Annotated[str, Field(min_length=1)]
Word = Annotated[str, Field(min_length=1, pattern=r"^\S*$")]
WebPage = Annotated[str, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/]\S*$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Directory = Annotated[str, Field(pattern=r"^(/|~/)")]


class Section(BaseModel):
    """A part of the configuration: frozen, strict, without unknown keys; docstrings describe its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def config_path(*location: int | str) -> str:
    """Name a place in the configuration, such as ``plugins.orchestrator.config.jobs[0].name``."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{CONFIG_PATH}{path}"


class RetriesConfig(Section):
    """How often a failed step is tried again (https://docs.dagster.io/api/dagster/ops#dagster.RetryPolicy)."""

    max_retries: int = Field(ge=0, le=100)
    """Tries after the first."""
    delay_seconds: float = Field(default=0, ge=0)
    """Wait before a try."""
    backoff: Literal["linear", "exponential"] | None = None
    """How the wait grows; it stays when left out."""
    jitter: Literal["full", "plus_minus"] | None = None
    """How the wait is spread; not at all when left out."""


class ConcurrencyConfig(Section):
    """The pool that all dbt steps of the product take a slot of."""

    pool: Word
    """Name of the pool (https://docs.dagster.io/guides/operate/managing-concurrency)."""
    limit: int | None = Field(default=None, ge=1)
    """Slots it should have. Pools live in the Dagster instance: ``floe-dagster plan`` prints the command."""


class PodResources(Section):
    """CPU and memory of a pod on Kubernetes; single values win over the size's."""

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


class PartitionVars(Section):
    """Names of the dbt variables that carry a partition to models that are not microbatch."""

    start: Text = "start_date"
    """First instant of the window."""
    end: Text = "end_date"
    """First instant after the window."""
    key: Text = "partition_key"
    """The key, for static partitions."""


class PartitionsConfig(Section):
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
    """First instant after the last partition; open when left out."""
    timezone: Timezone | None = None
    """IANA name; the configuration's ``timezone`` when left out."""
    end_offset: int = Field(default=0, ge=-10_000, le=10_000)
    """Partitions beyond the last complete one: 1 includes the running day."""
    values: list[Text] = Field(default_factory=list)
    """Keys of static partitions."""
    vars: PartitionVars = PartitionVars()
    """Names of the dbt variables that carry the partition."""
    time_column: Text | None = None
    """Column that a partition is cut by; shown on the asset, for I/O managers and people."""


EngineName = Literal["auto", "core", "v2"]


class ComputeConfig(Section):
    """Connection of a compute, and the dbt engine that runs its models."""

    model_config = ConfigDict(extra="allow")

    engine: EngineName | None = None
    """dbt engine of this compute; ``dbt.engine`` when left out. All other keys are the connection."""

    @property
    def connection(self) -> dict[str, Any] | None:
        """The connection: all keys but ``engine``. None when only the engine is configured."""
        connection = dict(self.model_extra or {})
        return None if self.engine is not None and not connection else connection


class DbtConfig(Section):
    """How dbt is run by the product's steps."""

    engine: EngineName = "auto"
    """dbt engine: ``core`` is the dbt-core 1.x of this Python environment, ``v2`` the executable of dbt v2. ``auto``
    takes dbt-core when it is installed, else dbt v2."""
    executable: Text | None = None
    """Executable of dbt v2, as a name on the PATH or a path; the first ``dbt`` of version 2 when left out."""
    timeout_seconds: int | None = Field(default=None, ge=1)
    """How long one dbt invocation may take before it is ended; no limit when left out."""
    columns: bool = True
    """Whether the names and types of a table's columns are asked for once it is built, and shown on its asset."""
    keep_targets: int = Field(default=3, ge=1)
    """How many target directories of invocations that succeeded are kept."""
    keep_failed_targets: int = Field(default=20, ge=1)
    """How many target directories of invocations that failed are kept."""
    enable_duplicate_source_asset_keys: bool = False
    """Whether several sources may have one asset key, as dagster-dbt's setting of that name."""
    attach_artifacts: bool = False
    """Whether each invocation's artifacts are kept with the run, as an archive in the Dagster instance's storage."""


class LineageConfig(Section):
    """How lineage events are named, kept and delivered."""

    enabled: bool = True
    """``false`` sends nothing, whatever backend is configured."""
    strict: bool = False
    """Whether a step fails when the backend has not accepted all its events by its end; a warning otherwise."""
    spool_dir: Directory | None = None
    """Absolute directory (or below ``~/``) that keeps events until the backend has them; each product has its own in
    it. ``$FLOE_STATE_DIR/<product>/lineage`` when left out, else below ``~/.local/state/floe``."""
    spool_max_mb: int = Field(default=256, ge=1)
    """Most that the product's spool may take, in MB."""
    flush_seconds: float = Field(default=5, ge=0, le=60)
    """How long the end of a step waits for events that are not delivered yet."""
    timeout_seconds: float = Field(default=2, gt=0, le=30)
    """How long one request to the backend may take."""
    namespaces: dict[Text, Text] = Field(default_factory=dict)
    """Dataset namespaces to write differently, such as ``postgres://10.0.0.7:5432: postgres://warehouse:5432``."""


class DeployConfig(Section):
    """Values for Dagster's Helm chart, as ``floe-dagster helm`` prints them."""

    size: Literal["small", "medium", "large"] = "medium"
    """Preset of CPU and memory of webserver and code server; the daemon's is one size smaller."""
    image: Text | None = Field(default=None, examples=["registry.example.com/retail-orders:1.4.0"])
    """The product's image, with a tag or a digest."""
    webserver: PodResources | None = None
    """CPU and memory of the webserver's pods."""
    daemon: PodResources | None = None
    """CPU and memory of the daemon's pod."""
    user_code: PodResources | None = None
    """CPU and memory of the product's code server, and of its run pods without ``run_resources``."""


class HeaderConfig(Section):
    """A header whose value is a secret, and therefore in the environment."""

    name: HeaderName
    """Name of the header, such as ``Authorization``."""
    variable: VariableName
    """Environment variable that holds its value, such as ``DAGSTER_AUTHORIZATION``."""
