"""Partitions of a product's assets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from floe_orchestrator_dagster.config.section import Section, Text
from floe_orchestrator_dagster.config.ticks import Timezone  # noqa: TC001  # pydantic reads the annotations


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
    """First instant that is no partition any more; open when left out."""
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
