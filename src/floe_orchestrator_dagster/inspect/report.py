"""Plain-text report of a plan: tables of the terminal's width and in colour, or plain and unbroken in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from floe_orchestrator_dagster.inspect.plan import (
        AssetPlan,
        JobPlan,
        Plan,
        PoolPlan,
        RunPlan,
        SchedulePlan,
        SensorPlan,
        StepPlan,
    )

_WIDEST = 120
_UNBROKEN = 100_000
_INDENT = (0, 0, 0, 2)
_EXTERNAL = "external"
_LISTED = 6


def print_plan(plan: Plan, warnings: Sequence[str]) -> None:
    """Print a plan to standard output."""
    console = Console(highlight=False, markup=False, emoji=False)
    # Names and commands are whole in a pipe, so that `grep` finds them.
    # rich takes a pipe with FORCE_COLOR for a terminal.
    console.width = min(console.width, _WIDEST) if sys.stdout.isatty() else _UNBROKEN
    with console.capture() as captured:
        for part in _parts(plan, warnings):
            console.print(part, crop=False)
    # rich pads the lines of tables.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _parts(plan: Plan, warnings: Sequence[str]) -> Iterator[RenderableType]:
    yield Text.assemble((f"{plan.product} {plan.version}", "bold"), f" in domain {plan.domain}")
    dbt = [("dbt project", plan.dbt_project), ("dbt target", plan.dbt_target), ("dbt engine", plan.dbt_engine)]
    yield _named([("artifacts", plan.artifacts), *dbt])
    if plan.assets:
        external = len(plan.assets) - len(plan.built)
        others = f", {external} {_EXTERNAL}" if external else ""
        yield _heading("Assets", f"{len(plan.built)} built here{others}")
        yield _indented(_asset_table(plan))
        if plan.unused_sources:
            sources = counted(plan.unused_sources, "source")
            yield Text(f"  Left out: {sources} that nothing uses. See the key `sources`.")
        stop = f", {plan.blocking_checks} of them blocking (a failure stops downstream assets)"
        yield _heading("Checks", f"{plan.checks}{stop if plan.blocking_checks else ''}")
    else:
        yield Text("\nNothing to build: the product declares no transforms.")
    yield from _partitions(plan)
    if len(plan.steps) > 1:
        yield _heading("Steps", "those without a common order can run at the same time")
        yield _indented(_step_table(plan.steps))
    if plan.jobs:
        yield _heading("Jobs", "a run of the whole job")
        rows = [(job.name, job.assets, job.checks, job.steps, job.dbt_invocations) for job in plan.jobs]
        yield _indented(_table(["job"], ["assets", "checks", "steps", "starts dbt"], rows))
        yield from (Text(f"  {job.name}: {described}") for job in plan.jobs if (described := _described(job)))
        yield _heading("Runs", "settings of each run")
        yield _named(_runs(plan.runs))
    if plan.schedules:
        yield _heading("Schedules", "their state once loaded, and their next ticks")
        yield from (_indented(_schedule(schedule)) for schedule in plan.schedules)
    yield from _triggers(plan)
    if plan.pools:
        yield _heading("Pools", "set the limit once per Dagster instance")
        yield from (_pool(pool) for pool in plan.pools)
    if warnings:
        yield _heading("Warnings")
        yield from (_hanging(line) for warning in warnings for line in warning.splitlines())
    absent = _absent(plan)
    if absent:
        yield Text(f"\nNot in this product: {', '.join(absent)}.")


def _partitions(plan: Plan) -> Iterator[RenderableType]:
    by_definition: dict[str, list[str]] = {}
    for asset in plan.assets:
        if asset.partitions:
            by_definition.setdefault(asset.partitions, []).append(asset.key)
    if by_definition:
        yield _heading("Partitions")
        rows = [(partitions, _listed(keys)) for partitions, keys in by_definition.items()]
        yield _indented(_table(["partitions", "assets"], [], rows))


def _step_table(steps: Sequence[StepPlan]) -> Table:
    rows = [
        (
            step.name,
            ", ".join(step.after) or "-",
            ", ".join(f"{kind} {_amounts(amounts)}" for kind, amounts in (step.resources or {}).items()) or "-",
            len(step.assets),
            step.checks,
        )
        for step in steps
    ]
    return _table(["step", "after", "pod"], ["assets", "checks"], rows)


def _amounts(amounts: Mapping[str, str]) -> str:
    return "/".join(amounts.values())


def _triggers(plan: Plan) -> Iterator[RenderableType]:
    if plan.sensors:
        yield _heading("Sensors", "their state once loaded")
        sensors = [
            (sensor.name, _watched(sensor), ", ".join(sensor.jobs), _state(running=sensor.running))
            for sensor in plan.sensors
        ]
        yield _indented(_table(["sensor", "watches", "launches", "state"], [], sensors))
    if plan.automation:
        yield _heading("Automation", "assets that Dagster materializes by itself")
        rules = [(rule.condition, _listed(rule.assets)) for rule in plan.automation]
        yield _indented(_table(["condition", "assets"], [], rules))


def _watched(sensor: SensorPlan) -> str:
    watched = f" {', '.join(sensor.watches)}" if sensor.watches else ""
    return f"{sensor.type}{watched}{f': {sensor.status}' if sensor.status else ''}"


def _runs(runs: RunPlan) -> list[tuple[str, str | None]]:
    steps = f", {counted(runs.max_concurrent or 0, 'step')} at a time"
    delay = f", each after {runs.delay_seconds:g} s" if runs.delay_seconds else ""
    return [
        ("executor", f"{runs.executor or 'the default'}{steps if runs.max_concurrent else ''}"),
        ("retries", f"{runs.max_retries} of a failed step{delay}" if runs.max_retries else "none"),
        ("time limit", f"{runs.timeout_seconds} s" if runs.timeout_seconds else "none"),
    ]


def _pool(pool: PoolPlan) -> RenderableType:
    if pool.command is None:
        return Text(f"  {pool.name}: the instance's default limit")
    return _unfolded([Text(f"  {pool.name}: {pool.limit}"), Text(f"    {pool.command}")])


def _absent(plan: Plan) -> list[str]:
    parts = {
        "assets": plan.assets,
        "jobs": plan.jobs,
        "schedules": plan.schedules,
        "sensors": plan.sensors,
        "automation": plan.automation,
        "pools": plan.pools,
    }
    return [name for name, part in parts.items() if not part]


def _heading(title: str, note: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), f": {note}" if note else "")


def _indented(part: RenderableType) -> Padding:
    return Padding(part, _INDENT, expand=False)


def _hanging(line: str) -> Padding:
    """Wrap a line with a hanging indent."""
    text = line.lstrip()
    return Padding(Text(text, style="yellow", overflow="fold"), (0, 0, 0, 2 + len(line) - len(text)), expand=False)


def _named(pairs: Iterable[tuple[str, str | None]]) -> Group:
    rows = [(name, value) for name, value in pairs if value is not None]
    width = max(len(name) for name, _ in rows) + 2
    return _unfolded(Text.assemble((f"  {name:<{width}}", "dim"), value) for name, value in rows)


def _unfolded(lines: Iterable[Text]) -> Group:
    """Keep each line whole at any terminal width, so that paths and commands can be copied."""
    return Group(*(Text(no_wrap=True, overflow="ignore").append_text(line) for line in lines))


def _table(texts: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return table


def _asset_table(plan: Plan) -> Table:
    rows: list[Sequence[object]] = []
    for group, assets in _by_group(plan.assets):
        rows.append((Text(f"{group} ({len(assets)})", style="cyan"),))
        for asset in assets:
            described = [asset.tier or "", asset.materialization or "", asset.compute or ""]
            rows.append((f"  {asset.key}", *described, asset.checks or "", asset.blocking_checks or ""))
    return _table(["asset, by group", "tier", "materialized", "compute"], ["checks", "blocking"], rows)


def _by_group(assets: Iterable[AssetPlan]) -> list[tuple[str, list[AssetPlan]]]:
    """Sort assets into groups, external ones last."""
    groups: dict[tuple[bool, str], list[AssetPlan]] = {}
    for asset in assets:
        groups.setdefault((asset.external, _EXTERNAL if asset.external else asset.group), []).append(asset)
    return [(group, groups[external, group]) for external, group in sorted(groups)]


def _schedule(schedule: SchedulePlan) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold")
    grid.add_row(schedule.name, _state(running=schedule.running))
    grid.add_row("  job", schedule.job)
    if schedule.select or schedule.exclude or schedule.dagster:
        without = f" without {schedule.exclude}" if schedule.exclude else ""
        grid.add_row("  of it", f"{schedule.dagster or schedule.select or 'everything'}{without}")
    if schedule.options:
        grid.add_row("  with", _options(schedule.options))
    grid.add_row("  cron", f"{schedule.cron} in {schedule.timezone}")
    ticks = [f"{tick:%a %Y-%m-%d %H:%M %Z}" for tick in schedule.next_ticks]
    grid.add_row("  next", "\n".join(ticks))
    return grid


def _described(job: JobPlan) -> str:
    """Return the selection of a job and its options of dbt; empty for a job of all assets without options."""
    with_options = f"with {_options(job.options)}" if job.options else ""
    return ", ".join(part for part in (job.selection, with_options) if part)


def _options(options: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in options.items())


def _state(*, running: bool) -> str:
    return "running" if running else "stopped"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
