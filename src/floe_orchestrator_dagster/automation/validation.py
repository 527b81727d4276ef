"""Validation of configured jobs, schedules, sensors and rules against the product, with all problems at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.partitions import (
    partitioned_nodes,
    partitions_definitions,
    require_dbt_project,
)
from floe_orchestrator_dagster.assets.parts import built_parents, product_parts
from floe_orchestrator_dagster.automation.conditions import assets_by_rule, automation_sensor_name
from floe_orchestrator_dagster.automation.jobs import job_names
from floe_orchestrator_dagster.automation.schedules import main_schedule_name
from floe_orchestrator_dagster.automation.targets import partitions_by_job
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.automation import RunStatusSensorConfig, ScheduleConfig
from floe_orchestrator_dagster.config.models import CORRECT_IT
from floe_orchestrator_dagster.deploy.resources import excessive_requests, requested_resources
from floe_orchestrator_dagster.errors import ConfigError, Problem
from floe_orchestrator_dagster.execution.step.deferral import default_state, unusable_state
from floe_orchestrator_dagster.execution.step.time_windows import UnusableSampleError, sample_window
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import ParamSpec

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.config.automation import JobConfig, SelectedAssets, SensorConfig
    from floe_orchestrator_dagster.product import Product

    P = ParamSpec("P")

_RENAME = f"Give it another name. {CORRECT_IT}"
# Prefix of the names of Dagster's implicit asset jobs.
_IMPLICIT_JOB = "__ASSET_JOB"


def check_automation(product: Product, selection: NodeSelection) -> None:
    """Check the configuration's names, job references and selections.

    Raises:
        ConfigError: Some are not valid. The message lists all problems, each with its place and the fix.
    """
    problems = automation_problems(product, selection)
    if problems:
        raise ConfigError(product.origin, problems)


def automation_problems(
    product: Product, selection: NodeSelection | None, lost: AbstractSet[str] = frozenset()
) -> list[Problem]:
    """Find names, job references and selections that are not valid.

    Args:
        product: The product.
        selection: Resolves dbt selections; None when the manifest cannot be read.
        lost: Sections with unreadable entries. Checks that need all entries of a section are skipped.
    """
    if not product.models:
        return []
    problems = [*_selections(product, selection, lost)] if selection else []
    by_job: Mapping[str, dg.PartitionsDefinition[str]] = {}
    is_known = "partitions" not in lost
    try:
        by_job = partitions_by_job(product) if is_known else {}
    except ConfigError as error:
        problems.extend(error.problems)
        is_known = False
    if is_known and by_job and selection and not problems:
        problems.extend(_kinds(product, selection, by_job))
        problems.extend(_samples(product, selection, by_job))
    names = [*_names(product, by_job)]
    references = [] if lost & {"jobs", "partitions"} or not is_known else [*_job_references(product)]
    options = _options(product) if product.dbt or selection is None else _unusable_options(product)
    return [*names, *references, *_sensors(product), *_resources(product), *options, *problems]


def _resources(product: Product) -> Iterator[Problem]:
    """Find requests of runs and parts that exceed their limits."""
    runs = product.config.run_resources
    found = excessive_requests(requested_resources(runs)) if runs else []
    if found:
        yield Problem(config_path("run_resources"), found[0], f"Raise the limit, or lower the request. {CORRECT_IT}")
        return
    for row, step in enumerate(product.config.steps):
        own = step.resources
        for what in excessive_requests(requested_resources(own, runs)) if own else ():
            merged = " when they override run_resources" if runs and own and not own.size else ""
            fix = f"Raise the limit, or lower the request. {CORRECT_IT}"
            yield Problem(config_path("steps", row, "resources"), f"{what}{merged}", fix)


def missing_states(product: Product) -> list[Problem]:
    """Find directories of states that jobs and schedules defer to, and that are missing or have no manifest.

    Runs of these jobs fail. All other jobs of the product can run, and another process may write the state later.
    """
    if product.dbt is None:
        return []
    project, problems = product.dbt.directory.path, []
    for where, entry, inherited in _with_options(product):
        options = {**inherited, **entry.dbt_options}
        if entry.state is not None and options.get("defer") == "true":
            problem = unusable_state(entry.state, product, project)
            if problem is not None:
                problems.append(Problem(f"{where}.state", problem[0], f"{problem[1]} {CORRECT_IT}"))
    return problems


def _with_options(product: Product) -> Iterator[tuple[str, JobConfig | ScheduleConfig, Mapping[str, str]]]:
    """Yield the place of each job and schedule, its entry, and the options that it takes from its job."""
    config = product.config
    for row, job in enumerate(config.jobs):
        yield config_path("jobs", row), job, {}
    of_job = {job.name: job.dbt_options for job in config.jobs}
    for row, schedule in enumerate(config.schedules):
        yield config_path("schedules", row), schedule, of_job.get(schedule.job or "", {})


def _unusable_options(product: Product) -> Iterator[Problem]:
    """Find options of dbt in a product without a dbt project, whose runs do not read them."""
    what = f"cannot be used: product {product.name!r} has no dbt project here"
    for where, entry, _ in _with_options(product):
        for name in entry.dbt_options:
            fix = f"Set {PROJECT_DIR_VARIABLE} to the directory with dbt_project.yml, or leave it out."
            yield Problem(f"{where}.{name}", what, fix)


def _options(product: Product) -> Iterator[Problem]:
    """Find options of dbt that runs of a job or schedule would refuse."""
    engine = product.dbt.installed_engine if product.dbt else None
    for where, entry, inherited in _with_options(product):
        own = entry.dbt_options
        yield from _deferral(where, own, {**inherited, **own}, product)
        try:
            if entry.sample:
                sample_window(entry.sample, engine)
        except UnusableSampleError as error:
            yield Problem(f"{where}.sample", error.what, f"{error.fix}. {CORRECT_IT}")


def _deferral(where: str, own: Mapping[str, str], options: Mapping[str, str], product: Product) -> Iterator[Problem]:
    """Find a deferral without a state, and options that are only used with ``defer``.

    Args:
        where: Place of the entry.
        own: The options that it sets.
        options: Its options, with those of its job.
        product: The product.
    """
    if options.get("defer") is None:
        for name in ("state", "favor_state"):
            if own.get(name, "false") != "false":
                fix = f"Set `defer: true`, or remove it. {CORRECT_IT}"
                yield Problem(f"{where}.{name}", "is only used with `defer`", fix)
    elif own.get("defer") == "true" and not (options.get("state") or default_state(product)):
        what = "is set, and no state is known to defer to"
        fix = f"Set `state` to a directory with the manifest.json of the other environment. {CORRECT_IT}"
        yield Problem(f"{where}.defer", what, fix)


def _selections(product: Product, selection: NodeSelection, lost: AbstractSet[str]) -> Iterator[Problem]:
    """Find selections that are not valid, rules, partitions and parts that overlap, and parts in a cycle."""
    config = product.config
    for row, job in enumerate(config.jobs):
        yield from _refused(selection.chosen, job, config_path("jobs", row))
    for row, schedule in enumerate(config.schedules):
        if schedule.selects:
            yield from _refused(selection.chosen, schedule, config_path("schedules", row))
    yield from _refused(assets_by_rule, product, selection)
    if product.dbt is not None:
        yield from _refused(partitioned_nodes, product, selection)
    else:
        yield from _refused(require_dbt_project, product)
    if "steps" not in lost:
        # Loading the product also compares the tables of sources with models.
        parents = built_parents(product.dbt.manifest, {}) if product.config.steps and product.dbt else {}
        yield from _refused(product_parts, product, selection, parents)


def _refused(ask: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Sequence[Problem]:
    try:
        ask(*args, **kwargs)
    except ConfigError as error:
        return error.problems
    return ()


def _kinds(
    product: Product, selection: NodeSelection, by_job: Mapping[str, dg.PartitionsDefinition[str]]
) -> Iterator[Problem]:
    """Find jobs and schedules with partitions of several kinds, which one job cannot build."""
    definitions = partitions_definitions(product)
    kind_of = {node: definitions[row] for node, row in partitioned_nodes(product, selection).items()}
    for row, job in enumerate(product.config.jobs):
        selected = selection.chosen(job, config_path("jobs", row))
        kinds = [kind_of[node] for node in selected & kind_of.keys()]
        if any(kind != kinds[0] for kind in kinds):
            key, text = _named_selection(job)
            what = f"{text!r} selects assets with different partitions, and a job supports one kind"
            yield Problem(config_path("jobs", row, key), what, f"Define one job per kind. {CORRECT_IT}")
    own = by_job.get(product.identifier)
    for row, schedule in enumerate(product.config.schedules):
        if schedule.job is None and schedule.selects:
            (key, text), where = _named_selection(schedule), config_path("schedules", row)
            selected = selection.chosen(schedule, where)
            foreign = sorted(node.split(".", 2)[-1] for node in selected & kind_of.keys() if kind_of[node] != own)
            if foreign:
                what = f"{text!r} selects {', '.join(foreign)}, whose partitions another job builds"
                fix = f"Set `job` to the job that builds them: {', '.join(map(repr, by_job))}. {CORRECT_IT}"
                yield Problem(f"{where}.{key}", what, fix)


def _samples(
    product: Product, selection: NodeSelection, by_job: Mapping[str, dg.PartitionsDefinition[str]]
) -> Iterator[Problem]:
    """Find samples of jobs and schedules that build time partitions, whose runs would refuse them."""
    rules = product.config.partitions
    timed = {node for node, row in partitioned_nodes(product, selection).items() if rules[row].type != "static"}
    jobs = {job.name: selection.chosen(job, config_path("jobs", row)) for row, job in enumerate(product.config.jobs)}
    for where, entry, _ in _with_options(product):
        if entry.sample is None:
            continue
        if isinstance(entry, ScheduleConfig) and not entry.selects:
            name = entry.job or product.identifier
            is_timed = (
                isinstance(by_job.get(name), dg.TimeWindowPartitionsDefinition) or jobs.get(name, frozenset()) & timed
            )
        else:
            is_timed = selection.chosen(entry, where) & timed
        if is_timed:
            what = "would replace the time partitions of the assets that it builds"
            fix = f"Remove it, or use it in a job that excludes assets with time partitions. {CORRECT_IT}"
            yield Problem(f"{where}.sample", what, fix)


def _named_selection(entry: SelectedAssets) -> tuple[str, str]:
    """Return the key of an entry's selection, and its text."""
    named = {"dagster": entry.dagster, "selector": entry.selector}
    return next(((key, text) for key, text in named.items() if text), ("select", entry.dbt_selection))


def _names(product: Product, by_job: Mapping[str, dg.PartitionsDefinition[str]]) -> Iterator[Problem]:
    """Find names that Dagster rejects. Schedules and sensors share one namespace; jobs have another."""
    config = product.config
    ours = {
        automation_sensor_name(product): "is the name of the sensor that evaluates the automation rules",
    }
    partition_jobs = dict.fromkeys(by_job, "is the name of the job of other partitions")
    ours.update({f"{name}_schedule": "is the name of the schedule of other partitions" for name in partition_jobs})
    ours[main_schedule_name(product)] = "is the name of the product's own schedule"
    schedules = {schedule.name: "is the name of a schedule too" for schedule in config.schedules}
    sections: list[tuple[str, Sequence[JobConfig | ScheduleConfig | SensorConfig], Mapping[str, str]]] = [
        ("jobs", config.jobs, {**partition_jobs, product.identifier: "is the name of the product's own job"}),
        ("schedules", config.schedules, ours),
        ("sensors", config.sensors, {**schedules, **ours}),
    ]
    for section, entries, taken in sections:
        for row, entry in enumerate(entries):
            name = entry.name
            reserved = "is a reserved word of Dagster or Python" if _is_reserved(name) else ""
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
            yield Problem(config_path(*location), what, f"Its jobs: {', '.join(map(repr, known))}. {CORRECT_IT}")


def _sensors(product: Product) -> Iterator[Problem]:
    for row, sensor in enumerate(product.config.sensors):
        if not isinstance(sensor, RunStatusSensorConfig):
            if not all(sensor.asset.split("/")):
                what = f"{sensor.asset!r} has an empty part"
                fix = f"Write the asset's key with its parts joined by slashes, such as 'shop/orders'. {CORRECT_IT}"
                yield Problem(config_path("sensors", row, "asset"), what, fix)
        elif sensor.job in (sensor.jobs or [product.identifier]):
            what = f"{sensor.job!r} is a job that the sensor watches, so that it would launch itself repeatedly"
            yield Problem(config_path("sensors", row, "job"), what, f"Launch or watch another job. {CORRECT_IT}")
