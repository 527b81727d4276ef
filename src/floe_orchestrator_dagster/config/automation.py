"""Sections of the configuration about jobs, schedules, rules, alerts and sensors, as frozen pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from floe_orchestrator_dagster.config.crons import Cron, Timezone  # noqa: TC001  # pydantic reads the annotations
from floe_orchestrator_dagster.config.models import (
    BuildMode,
    Name,
    Section,
    Text,
    VariableName,
    in_a_list,
)

EVERYTHING = "fqn:*"
"""The dbt selection of all nodes."""

TimeOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class DbtRunConfig(Section):
    """Options of dbt for the runs of a job or schedule. Those of a schedule override those of its job."""

    empty: bool | None = None
    """Whether dbt builds the tables without rows (``--empty``)."""
    sample: Text | None = Field(default=None, examples=["3 days"])
    """Window of event times to read, as a number of hours, days, months or years, or a mapping with ``start`` and
    ``end`` as text (``--sample``)."""
    defer: bool | None = None
    """Whether dbt reads tables that the run does not build from those of ``state`` (``--defer``)."""
    state: Text | None = Field(default=None, examples=["/srv/state/production"])
    """Directory with the manifest.json of the other environment, for ``defer``, or a URL of published states."""
    favor_state: bool | None = None
    """With ``defer``, whether dbt reads them from ``state`` also if they exist here (``--favor-state``)."""

    @property
    def dbt_options(self) -> dict[str, str]:
        """The options that are set, by name, as text."""
        values = {name: getattr(self, name) for name in DbtRunConfig.model_fields}
        return {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in values.items()
            if value is not None
        }


class SelectedAssets(Section):
    """Assets of an entry, selected in one of three ways."""

    select: Text | None = None
    """dbt selection (https://docs.getdbt.com/reference/node-selection/syntax), such as ``tag:daily+``."""
    exclude: Text | None = None
    """dbt selection of the assets to leave out."""
    selector: Text | None = None
    """Instead of ``select``: the name of a selector in the project's selectors.yml."""
    dagster: Text | None = Field(default=None, examples=["group:finance and not kind:bronze"])
    """Instead of ``select``: an asset selection of Dagster
    (https://docs.dagster.io/guides/build/assets/asset-selection-syntax)."""

    @property
    def selects(self) -> bool:
        """Whether assets are selected."""
        return bool(self.select or self.exclude or self.selector or self.dagster)

    @property
    def dbt_selection(self) -> str:
        """The dbt selection of ``select`` or ``selector``."""
        return f"selector:{self.selector}" if self.selector else self.select or EVERYTHING

    @property
    def shown(self) -> str:
        """The selection for people, such as ``tag:daily without stg``."""
        without = f" without {self.exclude}" if self.exclude else ""
        return f"{self.dagster or self.dbt_selection}{without}"


class JobConfig(SelectedAssets, DbtRunConfig):
    """A job that builds a part of the product, besides the product's own job."""

    name: Name
    """Name of the job."""
    description: str | None = None
    """Description on the job's page."""
    build: BuildMode | None = None
    """Extent of its runs: ``all`` or ``changed``. The default is the configuration's ``build``."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of its runs."""


class ScheduleConfig(SelectedAssets, DbtRunConfig):
    """A schedule besides the product's own."""

    name: Name
    """Name of the schedule."""
    cron: Cron
    """Five fields or a macro such as ``@daily``."""
    timezone: Timezone | None = None
    """IANA name. The default is the configuration's ``timezone``."""
    job: Name | None = None
    """Job to run. The default is the product's own job."""
    build: BuildMode | None = None
    """Extent of its runs: ``all`` or ``changed``. The default is that of the job."""
    enabled: bool = True
    """Whether the schedule starts running when the code location is loaded."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of its runs."""


class AutomationConfig(SelectedAssets):
    """A rule of declarative automation: when Dagster materializes the selected assets by itself."""

    condition: Literal["eager", "on_cron", "on_missing", "changed"]
    """``eager`` (after upstream assets change), ``on_cron`` (after a tick, once upstream assets are updated),
    ``on_missing``, or ``changed`` (after its code differs from that of its last build, or the tables that it reads
    change)."""
    cron: Cron | None = None
    """Cron of the condition ``on_cron``."""
    timezone: Timezone | None = None
    """IANA name. The default is the configuration's ``timezone``."""


Rules = Annotated[
    list[AutomationConfig],
    BeforeValidator(in_a_list, json_schema_input_type=AutomationConfig | list[AutomationConfig]),
]


class QuietHours(Section):
    """Hours in which a channel gets no messages; it gets them afterwards."""

    start: TimeOfDay = Field(examples=["22:00"])
    """Time of the day, as ``22:00``."""
    end: TimeOfDay = Field(examples=["07:00"])
    """As ``start``; earlier than ``start`` for hours that include midnight."""
    timezone: Timezone | None = None
    """IANA name. The default is the configuration's ``timezone``."""


class AlertConfig(Section):
    """A channel for messages about what is broken, and about its recovery."""

    name: Name
    """Name of the channel."""
    variable: VariableName | None = None
    """Environment variable with the channel's URL in the form of Apprise (https://github.com/caronc/apprise/wiki)."""
    plugin: Text | None = Field(default=None, examples=["slack"])
    """Name of an installed alert channel plugin of floe, instead of ``variable``."""
    config: dict[str, Any] = Field(default_factory=dict, examples=[{"timeout_seconds": 5}])
    """Settings of the plugin."""
    variables: dict[str, VariableName] = Field(default_factory=dict, examples=[{"webhook_url": "SLACK_WEBHOOK"}])
    """Environment variables with secret settings of the plugin, by setting."""
    owners: list[Text] = Field(default_factory=list, examples=[["retail-data@example.com"]])
    """Only messages about assets with one of these owners. The default is all messages of the product."""
    severity: Literal["error", "warning"] = "error"
    """``warning`` also sends messages about checks and freshness policies that only warn."""
    quiet_hours: QuietHours | None = None
    """Hours without messages."""


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
    """Whether the sensor starts running when the code location is loaded."""


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
    """Whether the sensor starts running when the code location is loaded."""


SensorConfig = Annotated[RunStatusSensorConfig | AssetSensorConfig, Field(discriminator="type")]
