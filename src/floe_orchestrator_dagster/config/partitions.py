"""Partitions of a product's assets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from floe_orchestrator_dagster.config.section import Section, Text


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
