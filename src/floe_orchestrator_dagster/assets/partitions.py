"""Partitions of the product's assets, as the configuration asks for them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytz

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, Problem
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.config.partitions import PartitionsConfig
    from floe_orchestrator_dagster.product import Product

_DAY = "%Y-%m-%d"
_HOUR = "%Y-%m-%d-%H:%M"
_FORMATS = {"hourly": _HOUR, "daily": _DAY, "weekly": _DAY, "monthly": _DAY}
_DEFINITIONS: Mapping[str, Callable[..., dg.PartitionsDefinition[str]]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
}


def partitioned_nodes(product: Product, selection: NodeSelection) -> dict[str, int]:
    """Find the row of ``partitions`` that each partitioned node follows, by unique id.

    Raises:
        ConfigError: A selection that dbt cannot read or that matches nothing, or two rows that select the same node.
    """
    rows: dict[str, int] = {}
    for row, rule in enumerate(product.config.partitions):
        found = selection.unique_ids(rule.select, rule.exclude, config_path("partitions", row))
        taken = sorted(found & rows.keys())
        if taken:
            names = ", ".join(unique_id.split(".")[-1] for unique_id in taken)
            what = f"{rule.select!r} selects {names}, which partitions[{rows[taken[0]]}] selects already"
            fix = "Exclude it from one of them (`exclude`). Correct it in manifest.yaml."
            raise ConfigError(product.origin, [Problem(config_path("partitions", row, "select"), what, fix)])
        rows.update(dict.fromkeys(found, row))
    return rows


def partitions_definitions(product: Product) -> list[dg.PartitionsDefinition[str]]:
    """Make Dagster's definition of each row of ``partitions``.

    Raises:
        ConfigError: A start, an end or a timezone that Dagster cannot use; all rows at once.
    """
    problems = [
        problem for row, rule in enumerate(product.config.partitions) for problem in _problems(product, row, rule)
    ]
    if problems:
        raise ConfigError(product.origin, problems)
    return [_definition(product, rule) for rule in product.config.partitions]


def require_dbt_project(product: Product) -> None:
    """Refuse partitions of a product that has no dbt project here: they are selected in it.

    Raises:
        ConfigError: The configuration has partitions.
    """
    if product.config.partitions:
        what = f"product {product.name!r} has no dbt project here, and partitions are selected in it"
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory that holds dbt_project.yml."
        raise ConfigError(product.origin, [Problem(config_path("partitions"), what, fix)])


def backfill_policy(rule: PartitionsConfig) -> dg.BackfillPolicy:
    """A range of time partitions is one run with one dbt invocation; static ones are a run each."""
    return dg.BackfillPolicy.multi_run(1) if rule.type == "static" else dg.BackfillPolicy.single_run()


def partition_metadata(rule: PartitionsConfig) -> Mapping[str, str]:
    """Tell the column that a partition is cut by, where Dagster's I/O managers look for it."""
    return {"partition_expr": rule.time_column} if rule.time_column else {}


def _definition(product: Product, rule: PartitionsConfig) -> dg.PartitionsDefinition[str]:
    if rule.type == "static":
        return dg.StaticPartitionsDefinition(rule.values)
    timezone = rule.timezone or product.config.timezone
    return _DEFINITIONS[rule.type](
        start_date=rule.start, end_date=rule.end, timezone=timezone, end_offset=rule.end_offset
    )


def _problems(product: Product, row: int, rule: PartitionsConfig) -> list[Problem]:
    where = config_path("partitions", row)
    if rule.type == "static":
        try:
            dg.StaticPartitionsDefinition(rule.values)
        except dg.DagsterError as error:
            return [Problem(f"{where}.values", str(error).rstrip("."), "Give the keys other names.")]
        return []
    problems = []
    for key, text in (("start", rule.start), ("end", rule.end)):
        if text is not None and not _is_date(text, _FORMATS[rule.type]):
            example = datetime(2026, 1, 31, tzinfo=pytz.utc).strftime(_FORMATS[rule.type])
            what = f"{text!r} is no start or end of {rule.type} partitions"
            problems.append(Problem(config_path("partitions", row, key), what, f"Write it as {example!r}."))
    if not problems and rule.start and rule.end and _date(rule.end, rule) <= _date(rule.start, rule):
        what = f"{rule.end!r} does not come after the start {rule.start!r}, so there would be no partition"
        problems.append(Problem(f"{where}.end", what, "Correct it in manifest.yaml."))
    timezone = rule.timezone or product.config.timezone
    if timezone not in pytz.all_timezones_set:
        what = f"timezone {timezone!r} is not an IANA timezone"
        fix = "Use one such as 'UTC', 'Europe/Berlin', 'America/New_York'."
        problems.append(Problem(config_path("partitions", row, "timezone"), what, fix))
    return problems


def _date(text: str, rule: PartitionsConfig) -> datetime:
    return datetime.strptime(text, _FORMATS[rule.type])  # noqa: DTZ007  # a wall clock: Dagster adds the timezone


def _is_date(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007  # as above
    except ValueError:
        return False
    return True
