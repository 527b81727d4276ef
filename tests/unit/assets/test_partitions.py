"""Partitions in the configuration, and errors with their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.assets.partitions import partitioned_nodes, partitions_definitions, require_dbt_project
from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.errors import ConfigError
from floe_orchestrator_dagster.product import load_product
from unit.samples import Json, contract, manifest, model, node, product, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product import Product

_DAILY: Json = {"select": "orders", "type": "daily", "start": "2026-01-01"}


def _configured(*rules: Json, timezone: str = "UTC") -> Product:
    return product(model("orders"), config={"partitions": list(rules), "timezone": timezone})


def _with_dbt(directory: Path, *rules: Json) -> Product:
    write_project(directory)
    write_json(directory / "target" / "manifest.json", manifest(node("orders"), node("items")))
    content = contract(model("orders"), model("items"), config={"partitions": list(rules)})
    return load_product(write_json(directory / "compiled_artifacts.json", content))


@pytest.mark.parametrize(
    ("rule", "definition"),
    [
        (_DAILY, dg.DailyPartitionsDefinition("2026-01-01", timezone="Europe/Berlin")),
        (
            {**_DAILY, "timezone": "UTC", "end": "2026-02-01", "end_offset": 1},
            dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01", end_offset=1),
        ),
        ({**_DAILY, "type": "weekly"}, dg.WeeklyPartitionsDefinition("2026-01-01", timezone="Europe/Berlin")),
        ({**_DAILY, "type": "monthly"}, dg.MonthlyPartitionsDefinition("2026-01-01", timezone="Europe/Berlin")),
        (
            {**_DAILY, "type": "hourly", "start": "2026-01-01-00:00"},
            dg.HourlyPartitionsDefinition("2026-01-01-00:00", timezone="Europe/Berlin"),
        ),
        ({"select": "orders", "type": "static", "values": ["a", "b"]}, dg.StaticPartitionsDefinition(["a", "b"])),
    ],
)
def test_partitions_become_dagsters_definitions(rule: Json, definition: dg.PartitionsDefinition[str]) -> None:
    assert partitions_definitions(_configured(rule, timezone="Europe/Berlin")) == [definition]


def test_keys_that_dagster_cannot_have_are_refused_at_once() -> None:
    rules = [{"select": name, "type": "static", "values": [f"{name}...b"]} for name in ("orders", "items")]

    with pytest.raises(ConfigError) as raised:
        partitions_definitions(_configured(*rules))

    assert [problem.where for problem in raised.value.problems] == [
        "plugins.orchestrator.config.partitions[0].values",
        "plugins.orchestrator.config.partitions[1].values",
    ]


@pytest.mark.parametrize("start", ["0001-01-01", "0999-12-31", "9999-12-31"])
def test_start_outside_of_dagsters_calendar_is_refused(start: str) -> None:
    with pytest.raises(ConfigError) as raised:
        partitions_definitions(_configured(_DAILY, {**_DAILY, "start": start}))

    [problem] = raised.value.problems
    assert problem.where == "plugins.orchestrator.config.partitions[1].start"
    assert problem.what == f"{start!r} is outside of Dagster's calendar, which has the years from 1000 to 9999"


@pytest.mark.parametrize("start", ["1000-01-01", "9999-12-30"])
def test_start_at_the_ends_of_dagsters_calendar_is_accepted(start: str) -> None:
    rule = {**_DAILY, "start": start}

    assert partitions_definitions(_configured(rule)) == [dg.DailyPartitionsDefinition(start)]


def test_each_node_has_one_entry_of_partitions(tmp_path: Path) -> None:
    shop = _with_dbt(tmp_path, _DAILY, {**_DAILY, "select": "items"})

    assert partitioned_nodes(shop, NodeSelection(shop)) == {"model.shop.orders": 0, "model.shop.items": 1}


def test_entries_that_select_the_same_node_are_refused(tmp_path: Path) -> None:
    shop = _with_dbt(tmp_path, _DAILY, {**_DAILY, "select": "orders items"})

    with pytest.raises(ConfigError) as raised:
        partitioned_nodes(shop, NodeSelection(shop))

    assert str(raised.value) == (
        f"{tmp_path / 'compiled_artifacts.json'}: 1 problem\n"
        "  plugins.orchestrator.config.partitions[1].select: 'orders items' selects orders, which partitions[0] "
        "selects already\n"
        "    fix: Exclude it from one of them (`exclude`). Correct it in manifest.yaml."
    )


def test_partitions_without_a_dbt_project_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"partitions: product 'shop-orders' has no dbt project here"):
        require_dbt_project(_configured(_DAILY))
