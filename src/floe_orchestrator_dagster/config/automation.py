"""Jobs, schedules, sensors and automation conditions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from floe_orchestrator_dagster.config.models import Name, Section, Text
from floe_orchestrator_dagster.config.ticks import Cron, Timezone  # noqa: TC001  # pydantic reads the annotations


class JobConfig(Section):
    """A job that builds a part of the product, besides the product's own job."""

    name: Name
    """Name of the job."""
    select: Text = "fqn:*"
    """dbt selection (https://docs.getdbt.com/reference/node-selection/syntax), such as ``tag:daily+``."""
    exclude: Text | None = None
    """dbt selection of the assets to leave out."""
    description: str | None = None
    """Description on the job's page."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of its runs."""


class ScheduleConfig(Section):
    """A schedule besides the product's own."""

    name: Name
    """Name of the schedule."""
    cron: Cron
    """Five fields or a macro such as ``@daily``."""
    timezone: Timezone | None = None
    """IANA name. The default is the configuration's ``timezone``."""
    job: Name | None = None
    """Job to run. The default is the product's own job."""
    select: Text | None = None
    """dbt selection of the assets to build. The default is all assets of the job."""
    exclude: Text | None = None
    """dbt selection of the assets to leave out."""
    enabled: bool = True
    """Whether the schedule starts running when the code location is loaded."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of its runs."""


class AutomationConfig(Section):
    """A rule of declarative automation: when Dagster materializes the selected assets by itself."""

    condition: Literal["eager", "on_cron", "on_missing"]
    """``eager`` (after upstream assets change), ``on_cron`` (after a tick, once upstream assets are updated) or
    ``on_missing``."""
    select: Text = "fqn:*"
    """dbt selection of the assets."""
    exclude: Text | None = None
    """dbt selection of the assets to leave out."""
    cron: Cron | None = None
    """Cron of the condition ``on_cron``."""
    timezone: Timezone | None = None
    """IANA name; the configuration's ``timezone`` when left out."""


class RunStatusSensorConfig(Section):
    """A sensor that launches a job after the end of a run."""

    type: Literal["run_status"]
    """``run_status``."""
    name: Name
    """Name of the sensor."""
    status: Literal["success", "failure", "canceled"]
    """Status of the runs to react to."""
    jobs: list[Name] = Field(default_factory=list)
    """Jobs of the product whose runs the sensor watches. The default is the product's own job."""
    job: Name
    """Job to launch."""
    enabled: bool = True
    """Whether it is running once the code location is loaded."""


class AssetSensorConfig(Section):
    """A sensor that launches a job after an asset of this or another code location was materialized."""

    type: Literal["asset"]
    """``asset``."""
    name: Name
    """Name of the sensor."""
    asset: Text
    """The asset's key, its parts joined by slashes."""
    job: Name | None = None
    """Job to launch. The default is the product's own job."""
    enabled: bool = True
    """Whether it is running once the code location is loaded."""


SensorConfig = Annotated[RunStatusSensorConfig | AssetSensorConfig, Field(discriminator="type")]


def _in_a_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


Rules = Annotated[
    list[AutomationConfig],
    BeforeValidator(_in_a_list, json_schema_input_type=AutomationConfig | list[AutomationConfig]),
]
