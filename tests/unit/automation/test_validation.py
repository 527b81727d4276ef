"""Validation of names, job references, crons and timezones, with all problems at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ConfigError
from unit.dbt_shop import dbt_shop
from unit.samples import Json, model, product

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "Correct it in manifest.yaml."
RENAME = f"Give it another name. {MANIFEST}"
JOBS = f"Its jobs: 'shop_orders', 'nightly'. {MANIFEST}"
NIGHTLY = {"name": "nightly"}
DAILY = {"name": "daily", "cron": "@daily"}
WATCH = {"type": "run_status", "name": "watch", "status": "success", "job": "nightly"}
FOLLOW = {"type": "asset", "name": "follow", "asset": "erp/orders"}
CRONS = "'0 6 * * *' (daily at 6:00), '0 8 * * MON-FRI' (weekdays at 8:00), '*/15 * * * *', '@hourly'"
RESERVED = "is a reserved word of Dagster or Python"
LOOP = "is a job that the sensor watches, so that it would launch itself repeatedly"
KEY = f"Write the asset's key with its parts joined by slashes, such as 'shop/orders'. {MANIFEST}"
AUTOMATION = "the sensor that evaluates the automation rules"
NEVER = f"cannot fire: failed to find next date. Use one such as {CRONS}."
NO_TIMEZONE = "is not an IANA timezone such as 'UTC', 'Europe/Berlin', 'America/New_York'."
NO_FIELDS = f"needs five fields (minute hour day month weekday), such as {CRONS}."


def problems(config: Json) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigError) as raised:
        build_definitions(product(model("a"), config=config))
    assert raised.value.origin == "CompiledArtifacts"
    return [
        (problem.where.removeprefix("plugins.orchestrator.config."), problem.what, problem.fix)
        for problem in raised.value.problems
    ]


@pytest.mark.parametrize(
    ("config", "where", "what", "fix"),
    [
        # names
        (
            {"jobs": [{"name": "shop_orders"}]},
            "jobs[0].name",
            "'shop_orders' is the name of the product's own job",
            RENAME,
        ),
        *(
            ({"jobs": [{"name": name}]}, "jobs[0].name", f"{name!r} {RESERVED}", RENAME)
            for name in ("config", "class", "type", "__ASSET_JOB", "__ASSET_JOB_1")
        ),
        ({"schedules": [{**DAILY, "name": "import"}]}, "schedules[0].name", f"'import' {RESERVED}", RENAME),
        ({"sensors": [{**FOLLOW, "name": "input"}]}, "sensors[0].name", f"'input' {RESERVED}", RENAME),
        (
            {"schedules": [DAILY, {**DAILY, "name": "shop_orders_schedule"}]},
            "schedules[1].name",
            "'shop_orders_schedule' is the name of the product's own schedule",
            RENAME,
        ),
        (
            {"sensors": [{**FOLLOW, "name": "shop_orders_automation"}]},
            "sensors[0].name",
            f"'shop_orders_automation' is the name of {AUTOMATION}",
            RENAME,
        ),
        (
            {"schedules": [DAILY], "sensors": [{**FOLLOW, "name": "daily"}]},
            "sensors[0].name",
            "'daily' is the name of a schedule too",
            RENAME,
        ),
        # jobs
        (
            {"jobs": [NIGHTLY], "schedules": [{**DAILY, "job": "weekly"}]},
            "schedules[0].job",
            "no job 'weekly' in product 'shop-orders'",
            JOBS,
        ),
        (
            {"jobs": [NIGHTLY], "sensors": [{**WATCH, "job": "weekly"}]},
            "sensors[0].job",
            "no job 'weekly' in product 'shop-orders'",
            JOBS,
        ),
        (
            {"jobs": [NIGHTLY], "sensors": [{**WATCH, "jobs": ["shop_orders", "weekly"]}]},
            "sensors[0].jobs[1]",
            "no job 'weekly' in product 'shop-orders'",
            JOBS,
        ),
        (
            {"jobs": [NIGHTLY], "sensors": [WATCH, {**FOLLOW, "job": "weekly"}]},
            "sensors[1].job",
            "no job 'weekly' in product 'shop-orders'",
            JOBS,
        ),
        # sensors
        *(
            ({"sensors": [{**FOLLOW, "asset": key}]}, "sensors[0].asset", f"{key!r} has an empty part", KEY)
            for key in ("/", "erp/", "/orders", "erp//orders")
        ),
        (
            {"sensors": [{**WATCH, "job": "shop_orders"}]},
            "sensors[0].job",
            f"'shop_orders' {LOOP}",
            f"Launch or watch another job. {MANIFEST}",
        ),
        (
            {"jobs": [NIGHTLY], "sensors": [{**WATCH, "jobs": ["shop_orders", "nightly"]}]},
            "sensors[0].job",
            f"'nightly' {LOOP}",
            f"Launch or watch another job. {MANIFEST}",
        ),
        # crons and timezones
        ({"default_schedule": "* * *"}, "default_schedule", f"cron '* * *' {NO_FIELDS}", MANIFEST),
        ({"timezone": "Mars/Base"}, "timezone", f"timezone 'Mars/Base' {NO_TIMEZONE}", MANIFEST),
        (
            {"schedules": [{**DAILY, "cron": "@reboot"}]},
            "schedules[0].cron",
            f"cron '@reboot' {NO_FIELDS[:-1]} (schedule 'daily')",
            MANIFEST,
        ),
        (
            {"schedules": [{**DAILY, "cron": "0 0 31 2 *"}]},
            "schedules[0].cron",
            f"cron '0 0 31 2 *' {NEVER[:-1]} (schedule 'daily')",
            MANIFEST,
        ),
        (
            {"schedules": [DAILY, {**DAILY, "name": "b", "timezone": "../etc"}]},
            "schedules[1].timezone",
            f"timezone '../etc' {NO_TIMEZONE[:-1]} (schedule 'b')",
            MANIFEST,
        ),
        (
            {"automation": [{"condition": "eager"}, {"condition": "on_cron", "cron": "0 6 * *"}]},
            "automation[1].cron",
            f"cron '0 6 * *' {NO_FIELDS}",
            MANIFEST,
        ),
        (
            {"automation": {"condition": "on_cron", "cron": "@daily", "timezone": "utc"}},
            "automation[0].timezone",
            f"timezone 'utc' {NO_TIMEZONE}",
            MANIFEST,
        ),
    ],
)
def test_mistake_is_refused_with_its_place_and_the_fix(config: Json, where: str, what: str, fix: str) -> None:
    assert problems(config) == [(where, what, fix)]


def test_all_mistakes_are_reported_at_once() -> None:
    config = {
        "jobs": [{"name": "shop_orders"}, {"name": "part", "select": "tag:daily"}],
        "schedules": [{**DAILY, "job": "nightly"}, {**DAILY, "name": "b", "exclude": "tag:x"}],
        "sensors": [{**FOLLOW, "asset": "/", "job": "weekly"}],
        "automation": [{"condition": "eager", "select": "tag:x"}, {"condition": "eager"}, {"condition": "on_missing"}],
        "partitions": [{"select": "a", "type": "static", "values": ["x...y"]}],
    }

    assert [where for where, _, _ in problems(config)] == [
        "jobs[0].name",
        "sensors[0].asset",
        "jobs[1].select",
        "schedules[1].exclude",
        "automation[0].select",
        "automation[2]",
        "partitions",
        "partitions[0].values",
    ]


# --- partitions -----------------------------------------------------------------------------------------------------

_STG = {"select": "stg", "type": "daily", "start": "2026-01-01"}
_MART = {"select": "mart", "type": "static", "values": ["north"]}


def _wrong(directory: Path, config: Json) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        build_definitions(dbt_shop(directory, config))
    return [str(problem).removeprefix("plugins.orchestrator.config.") for problem in raised.value.problems]


def test_job_over_partitions_of_several_kinds_is_refused(tmp_path: Path) -> None:
    jobs = [{"name": "both", "select": "stg mart raw"}, {"name": "one", "select": "stg raw"}]

    assert _wrong(tmp_path, {"jobs": jobs, "partitions": [_STG, _MART]}) == [
        (
            "jobs[0].select: 'stg mart raw' selects assets with different partitions, and a job supports one kind\n"
            f"    fix: Define one job per kind. {MANIFEST}"
        )
    ]


def test_selection_of_the_main_job_has_no_partitions_of_other_jobs(tmp_path: Path) -> None:
    schedules = [{**DAILY, "select": "stg+"}, {**DAILY, "name": "b", "select": "stg raw"}]

    assert _wrong(tmp_path, {"schedules": schedules, "partitions": [_STG, _MART]}) == [
        (
            "schedules[0].select: 'stg+' selects mart, whose partitions another job builds\n"
            f"    fix: Set `job` to the job that builds them: 'shop_orders', 'shop_orders_static'. {MANIFEST}"
        )
    ]


def test_selections_that_are_wrong_are_reported_at_once(tmp_path: Path) -> None:
    config = {
        "jobs": [{"name": "a", "select": "tag:dayly tag:gold nowhere", "exclude": "labels:x"}],
        "schedules": [{**DAILY, "select": "strg+"}],
        "automation": [{"condition": "eager", "select": "mart"}, {"condition": "eager", "select": "mart"}],
        "partitions": [_STG, {**_STG, "select": "+stg"}, {**_MART, "select": "mat"}],
    }

    assert [wrong.splitlines()[0] for wrong in _wrong(tmp_path, config)] == [
        "jobs[0].select: 'tag:dayly' matches nothing (in 'tag:dayly tag:gold nowhere')",
        "jobs[0].select: 'nowhere' matches nothing (in 'tag:dayly tag:gold nowhere')",
        "jobs[0].exclude: 'labels:x' is not a valid dbt selection: 'labels' is not a valid method name",
        "schedules[0].select: 'strg+' matches nothing",
        "automation[1]: each asset that it selects (1) matches an earlier rule, and the first match applies",
        "partitions[1].select: '+stg' selects stg, which partitions[0] selects already",
        "partitions[2].select: 'mat' matches nothing",
    ]


def test_a_job_and_a_schedule_may_share_a_name() -> None:
    config = {"jobs": [NIGHTLY], "schedules": [{**DAILY, "name": "nightly", "job": "nightly"}]}

    repository = build_definitions(product(model("a"), config=config)).get_repository_def()
    repository.load_all_definitions()

    assert repository.get_schedule_def("nightly").job_name == "nightly"


def test_configuration_of_a_product_without_transforms_is_not_checked() -> None:
    config = {"schedules": [{**DAILY, "job": "weekly"}], "automation": {"condition": "eager", "select": "tag:x"}}

    definitions = build_definitions(product(config=config))

    assert list(definitions.get_repository_def().schedule_defs) == []
