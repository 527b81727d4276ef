"""Contradictions between settings of the configuration: repeated names, keys that exclude each other, invalid dates."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config.models import CORRECT_IT, config_path
from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.config.automation import AlertConfig, AutomationConfig, SelectedAssets
    from floe_orchestrator_dagster.config.models import PartitionsConfig, StepConfig

_OWNER = re.compile(r"team:.+|[^@\s]+@[^@\s]+")  # as Dagster has them: another one would match no message
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
    yield from _repeated("alerts", (channel.name for channel in config.alerts))
    for row, channel in enumerate(config.alerts):
        yield from _channel(row, channel)
    for row, schedule in enumerate(config.schedules):
        if schedule.job is not None and schedule.selects:
            what = f"schedule {schedule.name!r} has both a job and a selection"
            fix = "Keep one: `job` runs a whole job, a selection runs a part of the product's own job."
            yield Problem(config_path("schedules", row), what, fix)
    for row, automation in enumerate(config.automation):
        yield from _cron(row, automation)
    sections: list[tuple[str, Sequence[SelectedAssets]]] = [
        ("jobs", config.jobs),
        ("schedules", config.schedules),
        ("automation", config.automation),
    ]
    for section, entries in sections:
        for row, entry in enumerate(entries):
            yield from _several_selections(config_path(section, row), entry)
    yield from _executable_of_core(config)
    yield from _repeated("steps", (step.name for step in config.steps if step.name is not None))
    for row, step in enumerate(config.steps):
        yield from _step(row, step, is_alone=len(config.steps) == 1)
    for row, partitions in enumerate(config.partitions):
        yield from (
            _static_partitions(row, partitions) if partitions.type == "static" else _time_partitions(row, partitions)
        )


def _several_selections(where: str, entry: SelectedAssets) -> Iterator[Problem]:
    of_dbt = [key for key in ("select", "exclude") if getattr(entry, key) is not None]
    for key, instead in (("selector", "`exclude` in selectors.yml"), ("dagster", "`not` in the selection")):
        others = [*of_dbt, *(["selector"] if key == "dagster" and entry.selector is not None else [])]
        if getattr(entry, key) is not None and others:
            what = f"cannot be combined with {' and '.join(others)}"
            yield Problem(f"{where}.{key}", what, f"Keep one of them; to leave assets out, use {instead}. {CORRECT_IT}")


def _executable_of_core(config: DagsterConfig) -> Iterator[Problem]:
    engines = {config.dbt.engine, *(compute.engine or config.dbt.engine for compute in config.computes.values())}
    if config.dbt.executable is not None and engines == {"core"}:
        what = "is for dbt v2 only, and the engine is core: dbt-core runs in the Python of Dagster"
        yield Problem(config_path("dbt", "executable"), what, f"Remove it, or write `engine: v2`. {CORRECT_IT}")


def _repeated(section: str, names: Iterable[str]) -> Iterator[Problem]:
    listed = list(names)
    for name, count in Counter(listed).items():
        if count > 1:
            rows = [row for row, other in enumerate(listed) if other == name]
            places = " and ".join(f"{section}[{row}]" for row in rows)
            what = f"the name {name!r} is used {count} times ({places})"
            yield Problem(config_path(section), what, f"Give each a different name. {CORRECT_IT}")


def _channel(row: int, channel: AlertConfig) -> Iterator[Problem]:
    where = config_path("alerts", row)
    if channel.variable is None and channel.plugin is None:
        fix = f"Name the environment variable with the URL of the channel, or write `plugin: NAME`. {CORRECT_IT}"
        yield Problem(f"{where}.variable", f"is missing (alert {channel.name!r})", fix)
    elif channel.variable is not None and channel.plugin is not None:
        what = "cannot be combined with plugin, which has its own configuration"
        yield Problem(f"{where}.variable", what, f"Keep one of them. {CORRECT_IT}")
    for name in ("config", "variables"):
        if getattr(channel, name) and channel.plugin is None:
            what = "is only valid with plugin"
            yield Problem(f"{where}.{name}", what, f"Remove it, or replace `variable`. {CORRECT_IT}")
    for place, owner in enumerate(channel.owners):
        if not _OWNER.fullmatch(owner):
            what = f"{owner!r} is neither an email address nor a team (alert {channel.name!r})"
            yield Problem(f"{where}.owners[{place}]", what, f"Write it like `team:{owner}`. {CORRECT_IT}")


def _cron(row: int, rule: AutomationConfig) -> Iterator[Problem]:
    where = config_path("automation", row, "cron")
    if rule.condition == "on_cron" and rule.cron is None:
        fix = 'Add one, such as `cron: "0 6 * * *"`, or use the condition eager, on_missing or changed.'
        yield Problem(where, "is missing: the condition on_cron needs a cron", f"{fix} {CORRECT_IT}")
    elif rule.condition != "on_cron" and rule.cron is not None:
        what = f"is only valid with the condition on_cron, and the condition is {rule.condition}"
        yield Problem(where, what, f"Remove it, or write `condition: on_cron`. {CORRECT_IT}")


def _step(row: int, step: StepConfig, *, is_alone: bool) -> Iterator[Problem]:
    where = config_path("steps", row)
    if step.by is None:
        if step.select is None:
            fix = "Write the part's dbt selection, or divide the product with `by: folder`."
            yield Problem(f"{where}.select", "is missing", f"{fix} {CORRECT_IT}")
        if "max" in step.model_fields_set:
            yield Problem(f"{where}.max", "is only valid with `by`", f"Remove it, or replace `select`. {CORRECT_IT}")
        return
    for key in ("select", "exclude", "name"):
        if key in step.model_fields_set:
            what = "is not valid with `by`, which divides the whole product"
            yield Problem(f"{where}.{key}", what, f"Keep one of them. {CORRECT_IT}")
    if not is_alone:
        what = "divides the whole product, and `steps` has other entries"
        yield Problem(f"{where}.by", what, f"Keep this entry alone, or replace it with selections. {CORRECT_IT}")


def _static_partitions(row: int, rule: PartitionsConfig) -> Iterator[Problem]:
    where = config_path("partitions", row, "values")
    if not rule.values:
        fix = f"List the keys, such as `values: [north, south]`. {CORRECT_IT}"
        yield Problem(where, "is missing: static partitions need a list of keys", fix)
    for value, count in Counter(rule.values).items():
        if count > 1:
            yield Problem(where, f"{value!r} is listed {count} times", f"List each key once. {CORRECT_IT}")
    for key in _OF_TIME:
        if key in rule.model_fields_set:
            what = "is only valid with time partitions, and the type is static"
            yield Problem(config_path("partitions", row, key), what, f"Remove it, or choose another type. {CORRECT_IT}")


def _time_partitions(row: int, rule: PartitionsConfig) -> Iterator[Problem]:
    form = _FORMATS[rule.type]
    if rule.values:
        what = f"is only valid with static partitions, and the type is {rule.type}"
        fix = f"Remove it, or write `type: static`. {CORRECT_IT}"
        yield Problem(config_path("partitions", row, "values"), what, fix)
    if rule.start is None:
        fix = f'Name the first partition, such as `start: "{_EXAMPLES[form]}"`. {CORRECT_IT}'
        yield Problem(config_path("partitions", row, "start"), f"is missing: {rule.type} partitions need it", fix)
    wrong = [(key, text) for key, text in (("start", rule.start), ("end", rule.end)) if text and not _date(text, form)]
    for key, text in wrong:
        what = f"{text!r} is not a valid {key} of {rule.type} partitions"
        yield Problem(config_path("partitions", row, key), what, f"Write it as {_EXAMPLES[form]!r}. {CORRECT_IT}")
    start, end = _date(rule.start or "", form), _date(rule.end or "", form)
    if start and end and end <= start:
        what = f"{rule.end!r} is not after the start {rule.start!r}"
        yield Problem(config_path("partitions", row, "end"), what, f"Write a later end, or remove it. {CORRECT_IT}")


def _date(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007  # local time: Dagster adds the timezone
    except ValueError:
        return None
