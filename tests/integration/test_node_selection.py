"""dbt selections select what ``dbt ls`` lists, and what dagster-dbt selects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from dagster_dbt import build_dbt_asset_selection

from floe_orchestrator_dagster.assets.dbt import dbt_project_assets
from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.product import load_product
from processes import run_python

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product import Product

SELECTIONS: list[tuple[str, str | None]] = [
    ("*", None),
    ("stg_orders", None),
    ("stg_orders+", None),
    ("+fct_orders", "stg_orders+"),
    ("1+fct_orders+1", None),
    ("@int_order_payments", None),
    ("tag:daily tag:reference", None),
    ("tag:marts,tag:daily", None),
    ("tag:mar*", "tag:daily"),
    ("path:models/marts", None),
    ("models/staging/stg_o*.sql", None),
    ("path:models/marts/_marts.yml", "config.materialized:table"),
    ("config.materialized:view", None),
    ("group:finance", "fct_daily_revenue"),
    ("retail_orders.staging", None),
    ("file:stg_orders.sql", None),
    ("package:retail_orders,resource_type:seed resource_type:snapshot", None),
    ("source:shop.orders+,tag:marts", None),
    ("+exposure:*", "resource_type:seed"),
]
# dagster-dbt hands plain dictionaries to methods that ask for dbt's classes, and leaves the project's name out.
ONLY_DBT: list[tuple[str, str | None]] = [
    ("1+test_name:not_negative", None),
    ("1+test_type:singular", None),
    ("access:protected", None),
    ("version:none", "tag:marts"),
    ("package:this,resource_type:seed", None),
]
# An ephemeral model is part of its readers' SQL and not an asset.
EPHEMERAL = "model.retail_orders.int_order_amounts"

_LIST = """
import json, sys
from dbt.cli.main import dbtRunner

flags, selections = json.loads(sys.argv[1]), json.loads(sys.argv[2])
manifest = dbtRunner().invoke(["--quiet", "parse", *flags]).result
listed = []
for select, exclude in selections:
    arguments = ["--select", *select.split(), *(["--exclude", *exclude.split()] if exclude else [])]
    output = ["--output", "json", "--output-keys", "unique_id"]
    result = dbtRunner(manifest=manifest).invoke(["--quiet", "ls", *arguments, *output, *flags])
    listed.append([json.loads(line)["unique_id"] for line in result.result])
print(json.dumps(listed))
"""


@pytest.fixture
def shop(prepared_sample: Path) -> Product:
    return load_product(prepared_sample / "compiled_artifacts.json")


@pytest.fixture
def selection(shop: Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeSelection:
    monkeypatch.chdir(tmp_path)
    return NodeSelection(shop)


def dbt_ls(project: Path, scratch: Path) -> list[set[str]]:
    """List with dbt itself; only what can be an asset."""
    output = {"type": "duckdb", "path": str(scratch / "plain.duckdb")}
    profile = {"retail_orders": {"target": "dev", "outputs": {"dev": output}}}
    (scratch / "profiles.yml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    flags = ["--profiles-dir", str(scratch), "--project-dir", str(project), "--target-path", str(scratch / "plain")]
    printed = run_python("-c", _LIST, json.dumps(flags), json.dumps(SELECTIONS + ONLY_DBT)).stdout
    listed = json.loads(printed.splitlines()[-1])
    types = {"model", "seed", "snapshot"}
    return [{name for name in names if name.split(".")[0] in types} - {EPHEMERAL} for names in listed]


def test_selections_are_those_of_dbt_ls(prepared_sample: Path, tmp_path: Path, selection: NodeSelection) -> None:
    selected = [selection.unique_ids(select, exclude, "here") for select, exclude in SELECTIONS + ONLY_DBT]

    assert all(selected)
    assert selected == dbt_ls(prepared_sample, tmp_path)


def test_selections_are_those_of_dagster_dbt(
    shop: Product, selection: NodeSelection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.dbt
    [built, *_] = dbt_project_assets(ProductTranslator(shop), shop.dbt, selection, {}).definitions
    assert isinstance(built, dg.AssetsDefinition)
    assets = [built]
    # For dagster-dbt a path is relative to the working directory.
    monkeypatch.chdir(shop.dbt.directory.path)

    for select, exclude in SELECTIONS:
        keys = build_dbt_asset_selection(assets, dbt_select=select, dbt_exclude=exclude or "").resolve(assets)
        names = {unique_id.split(".")[-1] for unique_id in selection.unique_ids(select, exclude, "here")}
        assert {key.to_user_string() for key in keys} == names, select
