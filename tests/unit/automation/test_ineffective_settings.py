"""Warnings about ineffective settings, in ``validate`` and in one line when a product is loaded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.inspect.validation import examine_product
from unit.dbt_shop import dbt_shop, write_dbt_shop
from unit.samples import Json, node

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "Correct it in manifest.yaml."
ALL_OF = "partitions[0].select: each partition builds all of"
WAITS = "is not an asset of this product: the sensor waits for another code location to materialize it"
DAILY = {"select": "windowed", "type": "daily", "start": "2026-01-01"}
STATIC = {"select": "by_region", "type": "static", "values": ["north"]}
NODES = (
    node("windowed", raw_code="where day >= '{{ var('start_date') }}'", columns={"Day": {"name": "Day"}}),
    node("by_region", raw_code='{{ config(tags=["x"]) }} where region = {{ var("partition_key", "all") }}'),
    node("batch", config={"materialized": "incremental", "incremental_strategy": "microbatch", "enabled": True}),
)


def reported(directory: Path, config: Json, *extra: Json) -> list[str]:
    """Examine a product with the configuration; return its warnings, without the place of the configuration."""
    findings = examine_product(write_dbt_shop(directory, config, *NODES, *extra))
    assert findings.loaded is not None, findings.errors
    assert {remark.file for remark in findings.warnings} <= {str(directory / "compiled_artifacts.json")}
    return [str(remark).removeprefix("plugins.orchestrator.config.") for remark in findings.warnings]


@pytest.mark.parametrize(
    "config",
    [
        {"partitions": [DAILY, STATIC, {**DAILY, "select": "batch"}]},
        {"partitions": [{**DAILY, "vars": {"start": "from", "end": "start_date"}}]},
        {"partitions": [{**DAILY, "time_column": "day"}]},
        # Nobody has described its columns.
        {"partitions": [{**DAILY, "select": "batch", "time_column": "day"}]},
        {"sensors": [{"type": "asset", "name": "a", "asset": "erp/orders"}]},
        {"assume_unchanged": ["erp", "erp.orders"]},
        {
            "jobs": [{"name": "next"}, {"name": "last"}],
            "sensors": [
                {"type": "run_status", "name": "a", "status": "success", "job": "next"},
                {"type": "run_status", "name": "b", "status": "success", "jobs": ["next"], "job": "last"},
                {"type": "run_status", "name": "c", "status": "success", "job": "last"},
            ],
        },
    ],
)
def test_effective_settings_have_no_warning(tmp_path: Path, config: Json) -> None:
    assert reported(tmp_path, config) == []


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (
            {**DAILY, "select": "raw stg windowed batch"},
            f"{ALL_OF} 'stg', 'raw': the code is not microbatch and does not read the dbt variable 'start_date' or 'end_date'",  # noqa: E501
        ),
        (
            {**DAILY, "vars": {"start": "from_day", "end": "to_day"}},
            f"{ALL_OF} 'windowed': the code is not microbatch and does not read the dbt variable 'from_day' or 'to_day'",  # noqa: E501
        ),
        (
            {**STATIC, "select": "batch"},
            f"{ALL_OF} 'batch': the code does not read the dbt variable 'partition_key'",
        ),
    ],
)
def test_partitions_that_a_model_ignores_are_reported(tmp_path: Path, rule: Json, what: str) -> None:
    fix = f"Read it with var() in the model, or exclude the model from the partitions. {MANIFEST}"

    assert reported(tmp_path, {"partitions": [rule]}) == [f"{what}\n    fix: {fix}"]


def test_column_that_a_model_does_not_have_is_reported(tmp_path: Path) -> None:
    assert reported(tmp_path, {"partitions": [{**DAILY, "time_column": "dya"}]}) == [
        f"partitions[0].time_column: 'dya' is not a described column of 'windowed'\n    fix: {MANIFEST}"
    ]


@pytest.mark.parametrize(("asset", "hint"), [("erp/order", "Did you mean 'erp/orders'? "), ("crm/customers", "")])
def test_sensor_on_an_unknown_asset_is_reported(tmp_path: Path, asset: str, hint: str) -> None:
    sensors = [
        {"type": "asset", "name": "a", "asset": "erp/orders"},
        {"type": "asset", "name": "b", "asset": asset},
    ]

    assert reported(tmp_path, {"sensors": sensors}) == [
        f"sensors[1].asset: {asset!r} {WAITS}\n    fix: {hint}Keep it if one does. {MANIFEST}"
    ]


@pytest.mark.parametrize(
    ("name", "hint"), [("erp.order", "Did you mean 'erp.orders'? "), ("eerp", "Did you mean 'erp'? "), ("crm", "")]
)
def test_unknown_source_that_is_assumed_unchanged_is_reported(tmp_path: Path, name: str, hint: str) -> None:
    fix = f"{hint}Write `source.table` or `source`. {MANIFEST}"

    assert reported(tmp_path, {"assume_unchanged": ["erp.orders", name]}) == [
        f"assume_unchanged[1]: {name!r} is not a source of the dbt project\n    fix: {fix}"
    ]


@pytest.mark.parametrize(
    ("owner", "hint"),
    [("team:finanec", "Did you mean 'team:finance'? "), ("nobody@example.com", "")],
)
def test_owner_without_assets_is_reported(tmp_path: Path, owner: str, hint: str) -> None:
    channel = {"name": "a", "variable": "A"}
    alerts = [{**channel, "owners": ["team:finance"]}, {**channel, "name": "b", "owners": ["team:finance", owner]}]
    owned = node("owned", meta={"dagster": {"owners": ["team:finance"]}})

    what = f"{owner!r} is not an owner of the product or of one of its assets, so that nothing is sent for it"
    fix = f"{hint}Write an email address, or `team:` and a name. {MANIFEST}"
    assert reported(tmp_path, {"alerts": alerts}, owned) == [f"alerts[1].owners[1]: {what}\n    fix: {fix}"]


def test_jobs_that_launch_each_other_are_reported(tmp_path: Path) -> None:
    config = {
        "jobs": [{"name": "staging", "select": "stg"}, {"name": "marts", "select": "mart"}],
        "sensors": [
            {"type": "asset", "name": "a", "asset": "stg", "job": "marts"},
            {"type": "run_status", "name": "b", "status": "success", "jobs": ["marts"], "job": "staging"},
        ],
    }

    [circle] = reported(tmp_path, config)

    fix = f"Remove one of the sensors between them. {MANIFEST}"
    assert circle in {
        f"sensors: jobs launch each other in a cycle: {path}\n    fix: {fix}"
        for path in ("staging -> marts -> staging", "marts -> staging -> marts")
    }


def test_loading_logs_all_warnings_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sensors = [{"type": "asset", "name": name, "asset": f"crm/{name}"} for name in ("a", "b")]
    shop = dbt_shop(tmp_path, {"sensors": sensors})

    build_definitions(shop)

    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    place = "plugins.orchestrator.config.sensors"
    assert record.getMessage() == (
        f"{tmp_path / 'compiled_artifacts.json'}: {place}[0].asset: 'crm/a' {WAITS}; {place}[1].asset: 'crm/b' {WAITS}"
    )
