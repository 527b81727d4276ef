"""Jobs, schedules, sensors and automation conditions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from floe_orchestrator_dagster.config.models import Name, Section, Text
from floe_orchestrator_dagster.config.ticks import Cron, Timezone  # noqa: TC001  # pydantic reads the annotations


class JobConfig(Section):
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


class ScheduleConfig(Section):
    """A schedule besides the product's own."""

    name: Name
    """Name of the schedule."""
    cron: Cron
    """Five fields or a macro such as ``@daily``."""
    timezone: Timezone | None = None
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


class AutomationConfig(Section):
    """Rule by which Dagster materializes assets itself (declarative automation)."""

    condition: Literal["eager", "on_cron", "on_missing"]
    """``eager`` (upstream changed), ``on_cron`` (after a tick, once upstream is there) or ``on_missing``."""
    select: Text = "fqn:*"
    """dbt selection of the assets."""
    exclude: Text | None = None
    """dbt selection of what is left out."""
    cron: Cron | None = None
    """The tick of ``on_cron``."""
    timezone: Timezone | None = None
    """IANA name; the configuration's ``timezone`` when left out."""


class RunStatusSensorConfig(Section):
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


class AssetSensorConfig(Section):
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


def _in_a_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


Rules = Annotated[
    list[AutomationConfig],
    BeforeValidator(_in_a_list, json_schema_input_type=AutomationConfig | list[AutomationConfig]),
]
