"""The sample product on real dbt, DuckDB and Dagster."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest
from dagster_dbt import dbt_assets

from dbt_v2 import engine_config, set_engine
from floe_orchestrator_dagster.code_location import definitions_from_file
from golden_lineage import assert_golden
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from processes import floe_dagster, run_dbt, run_python

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

    Node = dict[str, Any]
    ColumnLineage = dict[str, set[tuple[str, str]]]

GOLDEN = Path(__file__).parents[1] / "data" / "lineage" / "sample_run.json"
MARTS = {
    "customer_lifetime_value": 520,
    "dim_customers": 600,
    "dim_products": 60,
    "fct_orders": 4000,
    "stores": 12,
    "customers_snapshot": 600,
}
JOB = ("-m", "dagster", "job", "execute", "-m", "floe_orchestrator_dagster.definitions", "-j", "retail_orders")
MATERIALIZE = ("-m", "dagster", "asset", "materialize", "-m", "floe_orchestrator_dagster.definitions", "--select")

EXPOSURE = dg.AssetKey(["exposure", "weekly_trading_dashboard"])


def rows(database: Path, *tables: str) -> dict[str, int]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return {table: connection.table(table).count("*").fetchall()[0][0] for table in tables}


def relations(database: Path) -> set[str]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return {name for (name,) in connection.sql("select table_name from information_schema.tables").fetchall()}


def emitted_column_lineage(events: Iterable[Node]) -> dict[str, ColumnLineage]:
    """Return the input columns of each table's columns in the OpenLineage events."""
    outputs = [output for event in events if event["eventType"] == "COMPLETE" for output in event.get("outputs", ())]
    facets = {_table(output): output["facets"].get("columnLineage", {}).get("fields", {}) for output in outputs}
    values = {
        table: {column: _values(found["inputFields"]) for column, found in fields.items()}
        for table, fields in facets.items()
    }
    # A column may be chosen by others and have its values from none of them.
    return {table: {column: made for column, made in of.items() if made} for table, of in values.items() if of}


def emitted_columns(events: Iterable[Node]) -> dict[str, list[str]]:
    """Return the columns of each table that a node has built, from its OpenLineage events."""
    nodes = [event for event in events if event["eventType"] == "COMPLETE" and "." in event["job"]["name"]]
    outputs = [output for event in nodes for output in event.get("outputs", ())]
    fields = {output["name"]: output["facets"].get("schema", {}).get("fields", []) for output in outputs}
    return {name: [field["name"] for field in found] for name, found in fields.items()}


def _values(inputs: Iterable[Node]) -> set[tuple[str, str]]:
    direct = [field for field in inputs if any(part["type"] == "DIRECT" for part in field["transformations"])]
    return {(_table(field), field["field"]) for field in direct}


def _table(dataset: Node) -> str:
    return str(dataset["name"]).rpartition(".")[2]


def shown_column_lineage(instance: dg.DagsterInstance, name: str) -> ColumnLineage:
    """The same as Dagster shows it on an asset's page."""
    event = instance.get_latest_materialization_event(dg.AssetKey(name))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata["dagster/column_lineage"].value
    assert isinstance(shown, dg.TableColumnLineage)
    return {
        column: {(dep.asset_key.path[-1], dep.column_name) for dep in deps}
        for column, deps in shown.deps_by_column.items()
    }


@pytest.mark.parametrize("patches", ["on", "off"])
def test_product_job_runs_everything_in_one_dbt_build_without_warnings(
    prepared_sample: Path, tmp_path: Path, patches: str
) -> None:
    artifacts = prepared_sample / "compiled_artifacts.json"
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["observability"]["lineage"] = True
    artifacts.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "home").mkdir()
    home, state = str(tmp_path / "home"), str(tmp_path / "state")

    with serving() as backend:
        url = backend.url.removesuffix("/api/v1/lineage")
        paths = {"FLOE_ARTIFACTS_PATH": str(artifacts), "XDG_STATE_HOME": state, "DAGSTER_HOME": home}
        environment = {**paths, "FLOE_UPSTREAM_PATCHES": patches}
        result = run_python(*JOB, check=True, OPENLINEAGE_URL=url, **environment)

    output = result.stdout + result.stderr
    commands = [line for line in output.splitlines() if "running dbt build" in line]
    assert len(commands) == 1
    assert "--select fqn:*" in commands[0]
    assert "--profile retail_orders --target dev" in commands[0]
    assert " WARNING " not in output
    assert rows(prepared_sample / "warehouse" / "retail_orders.duckdb", *MARTS) == MARTS
    assert_valid_json(backend.events)
    assert_golden(backend.events, prepared_sample, GOLDEN)
    lineage = emitted_column_lineage(backend.events)
    with dg.DagsterInstance.from_config(home) as instance:
        assert {name: shown_column_lineage(instance, name) for name in lineage} == lineage
    assert lineage["fct_orders"]["order_id"] == {("stg_orders", "order_id")}


def test_product_job_builds_the_same_rows_and_column_lineage_with_dbt_v2(prepared_sample: Path, tmp_path: Path) -> None:
    artifacts = set_engine(prepared_sample / "compiled_artifacts.json", engine_config("v2"))
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["observability"]["lineage"] = True
    artifacts.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "home").mkdir()
    home = str(tmp_path / "home")

    with serving() as backend:
        url = backend.url.removesuffix("/api/v1/lineage")
        paths = {"FLOE_ARTIFACTS_PATH": str(artifacts), "XDG_STATE_HOME": str(tmp_path / "state"), "DAGSTER_HOME": home}
        run_python(*JOB, check=True, OPENLINEAGE_URL=url, **paths)

    assert rows(prepared_sample / "warehouse" / "retail_orders.duckdb", *MARTS) == MARTS
    assert_valid_json(backend.events)
    told = emitted_column_lineage(backend.events)
    with dg.DagsterInstance.from_config(home) as instance:
        assert {name: shown_column_lineage(instance, name) for name in told} == told
        assert not instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert told["fct_orders"]["order_id"] == {("stg_orders", "order_id")}
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    # The columns that dbt adds to a snapshot are neither documented nor in its query.
    built = {
        name.rpartition(" ")[2]: [column for column in columns if not column.startswith("dbt_")]
        for name, columns in golden["columns"].items()
    }
    assert emitted_columns(backend.events) == built
    tables = [table for event in backend.events for table in event.get("outputs", ())]
    tags = [tag for table in tables for tag in table["facets"].get("tags", {"tags": []})["tags"]]
    assert {tag["key"] for tag in tags} > {"daily", "marts"}
    assert not [tag for tag in tags if tag.get("field")]
    states = {(f"<run of {event['job']['name']}>", event["eventType"]) for event in backend.events}
    assert states == {(event["run"], event["event"]) for event in golden["events"]}


def test_product_with_selections_is_the_same_without_patches(prepared_sample: Path) -> None:
    artifacts = prepared_sample / "compiled_artifacts.json"
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    jobs = [
        {"name": "orders", "select": "+fct_orders path:models/marts", "exclude": "config.materialized:view"},
        {"name": "unique", "select": "1+test_name:unique"},
        {"name": "generic", "select": "1+test_type:generic"},
        {"name": "singular", "select": "1+test_type:singular"},
    ]
    content["plugins"]["orchestrator"]["config"]["jobs"] = jobs
    artifacts.write_text(json.dumps(content), encoding="utf-8")

    on, off = (
        json.loads(floe_dagster("plan", "--json", str(artifacts), FLOE_UPSTREAM_PATCHES=value).stdout)
        for value in ("on", "off")
    )

    assert on == off
    counts = {job["name"]: job["assets"] for job in off["jobs"]}
    assert counts["orders"] > 1
    assert counts["unique"] > counts["singular"] > 1


def test_a_subset_is_built_with_artifacts_target_and_warehouse_anywhere_on_disk(
    prepared_sample: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.move(prepared_sample, tmp_path / "some where else"))
    artifacts = Path(shutil.move(moved / "compiled_artifacts.json", tmp_path / "artifacts.json"))
    before = sorted(moved.rglob("*"))

    run_python(
        *(*MATERIALIZE, "key:stores or key:stg_stores"),
        FLOE_ARTIFACTS_PATH=str(artifacts),
        FLOE_DBT_PROJECT_DIR=str(moved),
        FLOE_STATE_DIR=str(tmp_path / "state"),
    )

    assert sorted(moved.rglob("*")) == before
    state = tmp_path / "state" / "retail-orders"
    assert relations(state / "warehouse" / "retail_orders.duckdb") == {"stores", "stg_stores"}
    assert rows(state / "warehouse" / "retail_orders.duckdb", "stores") == {"stores": 12}
    assert next((state / "target").rglob("run_results.json"))


def test_graph_equals_dbts_edge_for_edge(prepared_sample: Path, tmp_path: Path) -> None:
    graph = definitions_from_file(prepared_sample / "compiled_artifacts.json").resolve_asset_graph()

    nodes = [json.loads(line) for line in list_nodes(prepared_sample, tmp_path).splitlines()]

    assert asset_edges(graph) == dbt_edges({node["unique_id"]: node for node in nodes})
    assert len(asset_edges(graph)) == 26


def test_keys_and_checks_are_those_of_plain_dagster_dbt(prepared_sample: Path) -> None:
    @dbt_assets(manifest=prepared_sample / "target" / "manifest.json")
    def stock() -> Iterator[dg.Output[None]]:
        yield from ()

    stock_graph = dg.Definitions(assets=[stock]).resolve_asset_graph()
    graph = definitions_from_file(prepared_sample / "compiled_artifacts.json").resolve_asset_graph()

    assert graph.get_all_asset_keys() - {EXPOSURE} == stock_graph.get_all_asset_keys()
    assert asset_edges(graph) == asset_edges(stock_graph)
    on_sources = {key for key in graph.asset_check_keys if key.asset_key.path[0] == "shop"}
    # floe.yaml disables one check; the sources have freshness checks besides their tests.
    disabled = {dg.AssetCheckKey(dg.AssetKey("fct_orders"), "not_negative_fct_orders_discount_amount")}
    unit_test = dg.AssetCheckKey(dg.AssetKey("int_order_payments"), "payments_and_refunds_are_summed_per_order")
    assert graph.asset_check_keys - on_sources == (stock_graph.asset_check_keys - disabled) | {unit_test}
    assert disabled <= stock_graph.asset_check_keys
    assert Counter(key.name == "freshness" for key in on_sources) == {False: 7, True: 3}


def test_checks_and_assets_are_described_as_in_dbt(prepared_sample: Path) -> None:
    graph = definitions_from_file(prepared_sample / "compiled_artifacts.json").resolve_asset_graph()

    orders = graph.get(dg.AssetKey("fct_orders"))
    check = graph.get_check_spec(dg.AssetCheckKey(orders.key, "assert_payments_match_orders"))
    assert orders.description == (
        "One row per order, with its amounts and payments. Built incrementally: a run reads only the orders of new "
        "extracts."
    )
    assert check.description == "The payments of a completed order add up to the order total."
    assert check.blocking


def asset_edges(graph: AssetGraph) -> set[tuple[str, str]]:
    return {
        (parent.to_user_string(), key.to_user_string())
        for key in graph.get_all_asset_keys() - {EXPOSURE}
        for parent in graph.get(key).parent_keys
    }


def list_nodes(project: Path, scratch: Path) -> str:
    fields = "unique_id name source_name resource_type depends_on config"
    types = ["--resource-types", "model", "--resource-types", "seed", "--resource-types", "snapshot"]
    return run_dbt(
        project, scratch, "ls", *types, "--resource-types", "source", "--output", "json", "--output-keys", fields
    )


def dbt_edges(nodes: dict[str, Node]) -> set[tuple[str, str]]:
    """Return edges from `dbt ls`; a model behind an ephemeral one reads the ephemeral model's parents."""
    return {
        (asset_key(nodes[parent]), asset_key(node))
        for node in nodes.values()
        if not is_ephemeral(node)
        for parent in visible_parents(node, nodes)
    }


def visible_parents(node: Node, nodes: dict[str, Node]) -> set[str]:
    parents = (node.get("depends_on") or {}).get("nodes", [])
    return {
        visible
        for parent in parents
        for visible in (visible_parents(nodes[parent], nodes) if is_ephemeral(nodes[parent]) else [parent])
    }


def is_ephemeral(node: Node) -> bool:
    return bool(node["resource_type"] == "model") and node["config"]["materialized"] == "ephemeral"


def asset_key(node: Node) -> str:
    return f"{node['source_name']}/{node['name']}" if node["resource_type"] == "source" else str(node["name"])
