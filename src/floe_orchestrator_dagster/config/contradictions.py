"""Checks across several settings, each of which is valid alone."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config.models import config_path
from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.config.automation import AutomationConfig
    from floe_orchestrator_dagster.config.models import PartitionsConfig

_FIX = "Correct it in manifest.yaml."
_DAY = "%Y-%m-%d"
_HOUR = "%Y-%m-%d-%H:%M"
_FORMATS = {"hourly": _HOUR, "daily": _DAY, "weekly": _DAY, "monthly": _DAY}
_EXAMPLES = {_DAY: "2026-01-31", _HOUR: "2026-01-31-00:00"}
_OF_TIME = ("start", "end", "timezone", "end_offset")


def contradictions(config: DagsterConfig) -> Iterator[Problem]:
    """Find repeated names, keys that exclude or need each other, and dates that are not valid."""
    yield from _repeated("jobs", (job.name for job in config.jobs))
    yield from _repeated("schedules", (schedule.name for schedule in config.schedules))
    yield from _repeated("sensors", (sensor.name for sensor in config.sensors))
    for row, schedule in enumerate(config.schedules):
        if schedule.job is not None and (schedule.select or schedule.exclude):
            what = f"schedule {schedule.name!r} has both a job and a selection"
            fix = "Keep one: `job` runs a whole job, `select`/`exclude` run a part of the product's own job."
            yield Problem(config_path("schedules", row), what, fix)
    for row, automation in enumerate(config.automation):
        yield from _cron_of_rule(row, automation)
    yield from _executable_of_core(config)
    for row, partitions in enumerate(config.partitions):
        yield from _static(row, partitions) if partitions.type == "static" else _of_time(row, partitions)


def _executable_of_core(config: DagsterConfig) -> Iterator[Problem]:
    engines = {config.dbt.engine, *(compute.engine or config.dbt.engine for compute in config.computes.values())}
    if config.dbt.executable is not None and engines == {"core"}:
        what = "is for dbt v2 only, and the engine is core: dbt-core runs in the Python of Dagster"
        yield Problem(config_path("dbt", "executable"), what, f"Remove it, or write `engine: v2`. {_FIX}")


def _repeated(section: str, names: Iterable[str]) -> Iterator[Problem]:
    listed = list(names)
    for name, count in Counter(listed).items():
        if count > 1:
            rows = [row for row, other in enumerate(listed) if other == name]
            places = " and ".join(f"{section}[{row}]" for row in rows)
            what = f"the name {name!r} is used {count} times ({places})"
            yield Problem(config_path(section), what, f"Give each a different name. {_FIX}")


def _cron_of_rule(row: int, rule: AutomationConfig) -> Iterator[Problem]:
    where = config_path("automation", row, "cron")
    if rule.condition == "on_cron" and rule.cron is None:
        fix = 'Add one, such as `cron: "0 6 * * *"`, or use the condition eager or on_missing.'
        yield Problem(where, "is missing: the condition on_cron needs a cron", f"{fix} {_FIX}")
    elif rule.condition != "on_cron" and rule.cron is not None:
        what = f"is only valid with the condition on_cron, and the condition is {rule.condition}"
        yield Problem(where, what, f"Remove it, or write `condition: on_cron`. {_FIX}")


def _static(row: int, rule: PartitionsConfig) -> Iterator[Problem]:
    where = config_path("partitions", row, "values")
    if not rule.values:
        fix = f"List the keys, such as `values: [north, south]`. {_FIX}"
        yield Problem(where, "is missing: static partitions need a list of keys", fix)
    for value, count in Counter(rule.values).items():
        if count > 1:
            yield Problem(where, f"{value!r} is listed {count} times", f"List each key once. {_FIX}")
    for key in _OF_TIME:
        if key in rule.model_fields_set:
            what = "is only valid with time partitions, and the type is static"
            yield Problem(config_path("partitions", row, key), what, f"Remove it, or choose another type. {_FIX}")


def _of_time(row: int, rule: PartitionsConfig) -> Iterator[Problem]:
    form = _FORMATS[rule.type]
    if rule.values:
        what = f"is only valid with static partitions, and the type is {rule.type}"
        fix = f"Remove it, or write `type: static`. {_FIX}"
        yield Problem(config_path("partitions", row, "values"), what, fix)
    if rule.start is None:
        fix = f'Name the first partition, such as `start: "{_EXAMPLES[form]}"`. {_FIX}'
        yield Problem(config_path("partitions", row, "start"), f"is missing: {rule.type} partitions need it", fix)
    wrong = [(key, text) for key, text in (("start", rule.start), ("end", rule.end)) if text and not _date(text, form)]
    for key, text in wrong:
        what = f"{text!r} is not a valid {key} of {rule.type} partitions"
        yield Problem(config_path("partitions", row, key), what, f"Write it as {_EXAMPLES[form]!r}. {_FIX}")
    start, end = _date(rule.start or "", form), _date(rule.end or "", form)
    if start and end and end <= start:
        what = f"{rule.end!r} is not after the start {rule.start!r}"
        yield Problem(config_path("partitions", row, "end"), what, f"Write a later end, or remove it. {_FIX}")


def _date(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007  # local time: Dagster adds the timezone
    except ValueError:
        return None
