"""Two products in one workspace, loaded as ``dagster dev`` does: a code server each, one graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from processes import floe_dagster
from unit.samples import contract, manifest, model, node, source, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path


def _returns(directory: Path) -> Path:
    """Write a second product, whose dbt source is a mart of the sample."""
    path = write_json(directory / "compiled_artifacts.json", contract(model("refunds"), name="returns"))
    write_project(directory)
    upstream = source("retail", "orders", meta={"dagster": {"asset_key": ["fct_orders"]}})
    reader = node("refunds", depends_on={"nodes": [upstream["unique_id"]], "macros": []})
    write_json(directory / "target" / "manifest.json", manifest(reader, sources=(upstream,)))
    return path.parent


def test_both_products_load_and_one_reads_the_other(prepared_sample: Path, tmp_path: Path) -> None:
    returns = _returns(tmp_path / "returns")
    workspace = tmp_path / "workspace.yaml"

    printed = floe_dagster("workspace", str(prepared_sample), str(returns), "--output", str(workspace)).stdout

    assert "returns reads fct_orders of retail-orders\n" in printed
    target = WorkspaceFileTarget([str(workspace)])
    with dg.instance_for_test() as instance, WorkspaceProcessContext(instance, target) as process:
        context = process.create_request_context()
        assert context.code_location_names == ["retail-orders", "returns"]
        assert [entry.load_error for entry in context.get_code_location_entries().values()] == [None, None]
        graph = context.asset_graph
        refunds = graph.get(dg.AssetKey("refunds"))
        assert refunds.parent_keys == {dg.AssetKey("fct_orders")}
        assert graph.get(dg.AssetKey("fct_orders")).is_materializable
        assert dg.AssetKey("refunds") in graph.get(dg.AssetKey("fct_orders")).child_keys
