"""Products of a few dbt nodes that a test names, with their manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.code_location import definitions_from_file
from unit.samples import Json, contract, manifest, model, node, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

PROJECT = "shop"


def write_product(
    directory: Path,
    *nodes: Json,
    sources: Sequence[Json] = (),
    unit_tests: Sequence[Json] = (),
    config: Json | None = None,
    models: Sequence[Json] = (),
    **collections: object,
) -> Path:
    """Write a product into ``directory`` and return the path of its artifacts.

    Args:
        directory: Where it is written; it is created.
        nodes: Nodes of the manifest.
        sources: Its sources.
        unit_tests: Its unit tests.
        config: The orchestrator's configuration.
        models: Models of the contract; the first of the nodes when left out.
        collections: Further collections of the manifest.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_project(directory)
    entries = [*nodes, *sources, *unit_tests]
    reads = {entry["unique_id"]: entry["depends_on"]["nodes"] for entry in entries}
    children = {name: [child for child, parents in reads.items() if name in parents] for name in reads}
    content = manifest(*nodes, sources=tuple(sources), child_map=children)
    content = {**content, "parent_map": reads, "unit_tests": {entry["unique_id"]: entry for entry in unit_tests}}
    content["metadata"] = {**content["metadata"], "project_name": PROJECT}
    write_json(directory / "target" / "manifest.json", {**content, **collections})
    declared = [*models] or [model(nodes[0]["name"])]
    return write_json(directory / "compiled_artifacts.json", contract(*declared, config=config))


def reads(*unique_ids: str) -> Json:
    """Make the fields of a node that reads others."""
    return {"depends_on": {"nodes": [*unique_ids], "macros": []}}


def graph(path: Path) -> AssetGraph:
    """Load a product, and check that Dagster accepts its definitions."""
    definitions = definitions_from_file(path)
    dg.Definitions.validate_loadable(definitions)
    return definitions.resolve_asset_graph()


def singular_test(name: str, *reads: str, **fields: object) -> Json:
    """Make a singular test of models by name, or of other nodes by unique id."""
    parents = [entry if entry.count(".") > 1 else f"model.{PROJECT}.{entry}" for entry in reads]
    return node(
        name,
        "test",
        depends_on={"nodes": parents, "macros": []},
        config={"materialized": "test", "enabled": True, "severity": "ERROR"},
        original_file_path=f"tests/{name}.sql",
        **fields,
    )


def unit_test(name: str, of: str) -> Json:
    """Make a unit test of a model."""
    reads = {"nodes": [f"model.{PROJECT}.{of}"], "macros": []}
    return {**node(name, "unit_test", depends_on=reads), "unique_id": f"unit_test.{PROJECT}.{of}.{name}", "model": of}
