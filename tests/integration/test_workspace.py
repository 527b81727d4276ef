"""Two products in one workspace, loaded as ``dagster dev`` does: a code server each, one graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from command import invoke
from unit.samples import contract, manifest, model, node, source, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

_UPSTREAM = dg.AssetKey(["orders", "fct_orders"])


def _returns(directory: Path) -> Path:
    """Write a product whose dbt source is an asset of the other one."""
    path = write_json(directory / "compiled_artifacts.json", contract(model("refunds"), name="returns"))
    write_project(directory)
    upstream = source("retail", "orders", meta={"dagster": {"asset_key": ["orders", "fct_orders"]}})
    reader = node("refunds", depends_on={"nodes": [upstream["unique_id"]], "macros": []})
    write_json(directory / "target" / "manifest.json", manifest(reader, sources=(upstream,)))
    return path.parent


def test_both_products_load_and_one_reads_the_other(tmp_path: Path) -> None:
    orders, returns = tmp_path / "orders", _returns(tmp_path / "returns")
    content = contract(model("fct_orders"), name="orders", config={"key_prefix": ["orders"]})
    write_json(orders / "compiled_artifacts.json", content)
    workspace = tmp_path / "workspace.yaml"

    result = invoke("workspace", orders, returns, "--output", workspace)

    assert "returns reads the asset orders/fct_orders of orders\n" in result.stdout
    target = WorkspaceFileTarget([str(workspace)])
    with dg.instance_for_test() as instance, WorkspaceProcessContext(instance, target) as process:
        context = process.create_request_context()
        assert context.code_location_names == ["orders", "returns"]
        assert [entry.load_error for entry in context.get_code_location_entries().values()] == [None, None]
        graph = context.asset_graph
        refunds = graph.get(dg.AssetKey("refunds"))
        assert refunds.parent_keys == {_UPSTREAM}
        assert graph.get(_UPSTREAM).is_materializable
        assert dg.AssetKey("refunds") in graph.get(_UPSTREAM).child_keys
