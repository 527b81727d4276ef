"""A small product with a dbt manifest: source and seed → stg → hidden (ephemeral) → mart and wide v1, with tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product import load_product
from unit.samples import Json, contract, manifest, model, node, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product import Product


def dbt_shop(directory: Path, config: Json | None = None, *extra: Json) -> Product:
    """Write the product into ``directory`` and read it; ``extra`` are more nodes."""
    return load_product(write_dbt_shop(directory, config, *extra))


def write_dbt_shop(directory: Path, config: Json | None = None, *extra: Json) -> Path:
    """Write the product into ``directory`` and return the path of its artifacts."""
    entries = [*_nodes(), *extra]
    reads = {entry["unique_id"]: entry["depends_on"]["nodes"] for entry in [*entries, _SOURCE]}
    children = {name: [child for child, parents in reads.items() if name in parents] for name in reads}
    write_project(directory)
    for entry in entries:
        path = directory / entry["original_file_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(entry["raw_code"], encoding="utf-8")
    write_json(directory / "target" / "manifest.json", manifest(*entries, sources=(_SOURCE,), child_map=children))
    models = [model("stg", quality_tier="bronze"), model("mart", "stg", quality_tier="gold")]
    return write_json(directory / "compiled_artifacts.json", contract(*models, config=config))


def depends_on(*names: str) -> Json:
    """Dependencies of a node."""
    return {"nodes": list(names), "macros": []}


_SOURCE: Json = {
    "unique_id": "source.shop.erp.orders",
    "resource_type": "source",
    "source_name": "erp",
    "name": "orders",
    "identifier": "orders",
    "description": "",
    "package_name": "shop",
    "fqn": ["shop", "staging", "erp", "orders"],
    "original_file_path": "models/staging/_sources.yml",
    "schema": "erp",
    "config": {"enabled": True},
    "tags": [],
    "columns": {},
    "depends_on": depends_on(),
}


def _nodes() -> list[Json]:
    version: Json = {"version": 1, "latest_version": 1, "fqn": ["shop", "marts", "wide", "v1"], "alias": "wide_v1"}
    return [
        node("raw", "seed", description="", original_file_path="seeds/raw.csv"),
        node(
            "stg",
            depends_on=depends_on("seed.shop.raw", "source.shop.erp.orders"),
            tags=["daily"],
            fqn=["shop", "staging", "stg"],
        ),
        node("hidden", depends_on=depends_on("model.shop.stg"), config={"materialized": "ephemeral", "enabled": True}),
        node("mart", depends_on=depends_on("model.shop.hidden"), tags=["daily", "gold"], access="public"),
        node("wide", depends_on=depends_on("model.shop.hidden"), **version),
        _test("unique_stg", "stg", tags=["quality"]),
        _test("unique_mart", "mart"),
    ]


def _test(name: str, of: str, **fields: object) -> Json:
    reads = depends_on(f"model.shop.{of}")
    config = {"materialized": "test", "enabled": True, "severity": "ERROR"}
    metadata = {"name": "unique", "kwargs": {"column_name": "id"}}
    return node(
        name,
        "test",
        depends_on=reads,
        attached_node=f"model.shop.{of}",
        column_name="id",
        config=config,
        test_metadata=metadata,
        original_file_path=f"models/{of}.yml",
        **fields,
    )
