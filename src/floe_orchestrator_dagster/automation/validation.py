"""What the configuration says of jobs, schedules, sensors and rules, held against the product: all problems at once.

Selections are checked where they are resolved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.conditions import automation_sensor_name
from floe_orchestrator_dagster.automation.cron import check_cron, check_timezone
from floe_orchestrator_dagster.automation.jobs import job_names
from floe_orchestrator_dagster.automation.partitions import partitions_by_job
from floe_orchestrator_dagster.automation.schedules import own_schedule_name
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.automation import RunStatusSensorConfig
from floe_orchestrator_dagster.errors import ConfigError, Problem, ScheduleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.config.automation import AutomationConfig, JobConfig, ScheduleConfig, SensorConfig
    from floe_orchestrator_dagster.product import Product

_FIX = "Correct it in manifest.yaml."
_RENAME = f"Give it another name. {_FIX}"
# Dagster's own jobs over assets are called so.
_IMPLICIT_JOB = "__ASSET_JOB"


def check_automation(product: Product) -> None:
    """Refuse a configuration whose names, job references, crons or timezones cannot work.

    Raises:
        ConfigError: All problems, each with its place and the fix.
    """
    problems = [*_names(product), *_job_references(product), *_sensors(product), *_ticks(product)]
    if problems:
        raise ConfigError(product.origin, problems)


def _names(product: Product) -> Iterator[Problem]:
    """Find names that Dagster refuses; its schedules and sensors share one namespace, jobs have another."""
    config = product.config
    ours = {
        automation_sensor_name(product): "is the name of the sensor that evaluates the automation rules",
    }
    partition_jobs = dict.fromkeys(partitions_by_job(product), "is the name of the job of other partitions")
    ours.update({f"{name}_schedule": "is the name of the schedule of other partitions" for name in partition_jobs})
    ours[own_schedule_name(product)] = "is the name of the product's own schedule"
    schedules = {schedule.name: "is the name of a schedule too" for schedule in config.schedules}
    sections: list[tuple[str, Sequence[JobConfig | ScheduleConfig | SensorConfig], Mapping[str, str]]] = [
        ("jobs", config.jobs, {**partition_jobs, product.identifier: "is the name of the product's own job"}),
        ("schedules", config.schedules, ours),
        ("sensors", config.sensors, {**schedules, **ours}),
    ]
    for section, entries, taken in sections:
        for row, entry in enumerate(entries):
            name = entry.name
            reserved = "is a word that Dagster or Python keep for themselves" if _is_reserved(name) else ""
            reason = taken.get(name) or reserved
            if reason:
                yield Problem(config_path(section, row, "name"), f"{name!r} {reason}", _RENAME)


def _is_reserved(name: str) -> bool:
    try:
        dg.GraphDefinition(name=name)
    except dg.DagsterInvalidDefinitionError:
        return True
    return name.startswith(_IMPLICIT_JOB)


def _job_references(product: Product) -> Iterator[Problem]:
    known = list(dict.fromkeys(job_names(product)))
    named = [
        *((("schedules", row, "job"), schedule.job) for row, schedule in enumerate(product.config.schedules)),
        *((("sensors", row, "job"), sensor.job) for row, sensor in enumerate(product.config.sensors)),
        *(
            (("sensors", row, "jobs", place), job)
            for row, sensor in enumerate(product.config.sensors)
            if isinstance(sensor, RunStatusSensorConfig)
            for place, job in enumerate(sensor.jobs)
        ),
    ]
    for location, job in named:
        if job is not None and job not in known:
            what = f"no job {job!r} in product {product.name!r}"
            yield Problem(config_path(*location), what, f"Its jobs: {', '.join(map(repr, known))}. {_FIX}")


def _sensors(product: Product) -> Iterator[Problem]:
    for row, sensor in enumerate(product.config.sensors):
        if not isinstance(sensor, RunStatusSensorConfig):
            if not all(sensor.asset.split("/")):
                what = f"{sensor.asset!r} has an empty part"
                fix = f"Write the asset's key with its parts joined by slashes, such as 'shop/orders'. {_FIX}"
                yield Problem(config_path("sensors", row, "asset"), what, fix)
        elif sensor.job in (sensor.jobs or [product.identifier]):
            what = f"{sensor.job!r} is a job that the sensor watches: it would launch itself again and again"
            yield Problem(config_path("sensors", row, "job"), what, f"Launch or watch another job. {_FIX}")


def _ticks(product: Product) -> Iterator[Problem]:
    config = product.config
    yield from _checked(check_cron, config.default_schedule, "default_schedule")
    yield from _checked(check_timezone, config.timezone, "timezone")
    sections: list[tuple[str, Sequence[ScheduleConfig | AutomationConfig]]] = [
        ("schedules", config.schedules),
        ("automation", config.automation),
    ]
    for section, entries in sections:
        for row, entry in enumerate(entries):
            yield from _checked(check_cron, entry.cron, section, row, "cron")
            yield from _checked(check_timezone, entry.timezone, section, row, "timezone")


def _checked(check: Callable[[str], str], value: str | None, *location: int | str) -> Iterator[Problem]:
    try:
        if value is not None:
            check(value)
    except ScheduleError as error:
        yield Problem(config_path(*location), str(error), _FIX)
