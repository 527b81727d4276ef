"""Small products, as the tests of this folder need them: contract, dbt project, manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product import product_from_artifacts
from floe_orchestrator_dagster.product.artifacts import validate_artifacts
from floe_orchestrator_dagster.product.project import read_project_directory

if TYPE_CHECKING:
    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.project import ProjectDirectory

CONTRACTS = Path(__file__).parent.parent / "data" / "artifacts"
NAME = "shop-orders"
RECOMPILE = "Correct floe.yaml and compile the product again (floe platform compile)."

Json = dict[str, Any]


def model(name: str, *depends_on: str, **fields: object) -> Json:
    """Declare a model of a contract, on duckdb."""
    return {"name": name, "compute": "duckdb", "depends_on": list(depends_on), **fields}


def contract(*models: Json, name: str = NAME, config: Json | None = None, **changes: object) -> Json:
    """Make the JSON object of CompiledArtifacts 0.16.0; without models it declares no transforms."""
    return {
        "version": "0.16.0",
        "metadata": {
            "compiled_at": "2026-03-01T06:00:00Z",
            "floe_version": "0.3.0",
            "source_hash": "sha256:5f0c1d",
            "product_name": name,
            "product_version": "1.2.0",
        },
        "identity": {"product_id": "sales.shop_orders", "domain": "sales", "repository": ""},
        "observability": {
            "telemetry": {
                "resource_attributes": {
                    "service_name": name,
                    "service_version": "1.2.0",
                    "deployment_environment": "dev",
                    "floe_namespace": "sales",
                    "floe_product_name": name,
                    "floe_product_version": "1.2.0",
                    "floe_mode": "dev",
                }
            },
            "lineage": False,
            "lineage_namespace": name,
        },
        "plugins": {
            "compute": {"type": "duckdb", "version": "0.9.0"},
            "orchestrator": {"type": "dagster", "version": "0.1.0", "config": config},
        },
        "transforms": {"models": list(models), "default_compute": "duckdb"} if models else None,
        "dbt_profiles": profiles(),
        **changes,
    }


def profiles(profile: str = NAME, **output: object) -> Json:
    """Make ``dbt_profiles`` with one duckdb output called dev; ``output`` changes it."""
    return {profile: {"target": "dev", "outputs": {"dev": {"type": "duckdb", "path": "shop.duckdb", **output}}}}


def validated(*models: Json, **changes: object) -> CompiledArtifacts:
    """Make the validated contract."""
    return validate_artifacts({**contract(*models), **changes}, "contract")


def product(*models: Json, name: str = NAME, config: Json | None = None, **changes: object) -> Product:
    """Make a product without a dbt project."""
    return product_from_artifacts(contract(*models, name=name, config=config, **changes))


def write_json(path: Path, content: object) -> Path:
    """Write a JSON file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_project(directory: Path, **settings: object) -> Path:
    """Write a ``dbt_project.yml`` (JSON is YAML) into ``directory`` and return the directory."""
    write_json(directory / "dbt_project.yml", {"name": "shop_orders", "profile": "shop_orders", **settings})
    return directory


def project(directory: Path, **settings: object) -> ProjectDirectory:
    """Write a dbt project into ``directory`` and read it."""
    return read_project_directory(write_project(directory, **settings), NAME)


def node(name: str, resource_type: str = "model", **fields: object) -> Json:
    """Make a node of a dbt manifest, with the fields that are read and some that are not."""
    return {
        "unique_id": f"{resource_type}.shop.{name}",
        "resource_type": resource_type,
        "name": name,
        "description": "",
        "package_name": "shop",
        "fqn": ["shop", name],
        "original_file_path": f"models/{name}.sql",
        "schema": "main",
        "alias": name,
        "config": {"materialized": "view", "enabled": True},
        "tags": [],
        "columns": {},
        "depends_on": {"nodes": [], "macros": ["macro.dbt.ref"]},
        "checksum": {"name": "sha256", "checksum": f"checksum-of-{name}"},
        "raw_code": f"select 1 as {name}",
        "compiled_code": f"select 1 as {name}",
        "docs": {"show": True},
        "build_path": None,
        **fields,
    }


def source(source_name: str, name: str, **fields: object) -> Json:
    """Make a source of a dbt manifest."""
    return {
        **node(name, "source"),
        "unique_id": f"source.shop.{source_name}.{name}",
        "source_name": source_name,
        "identifier": name,
        "fqn": ["shop", source_name, name],
        "original_file_path": "models/sources.yml",
        "schema": source_name,
        **fields,
    }


def ingestion_output(table: str, **fields: object) -> Json:
    """Declare a table that ingestion writes, as ``namespace.table``."""
    return {
        "source_name": "files",
        "source_type": "filesystem",
        "logical_table": table,
        "physical_table": table,
        "file_format": "csv",
        "source_path": "data/in",
        "write_mode": "append",
        "schema_contract": "evolve",
        **fields,
    }


def manifest(*nodes: Json, sources: tuple[Json, ...] = (), **changes: object) -> Json:
    """Make a dbt manifest of these nodes and sources."""
    every = [*nodes, *sources]
    return {
        "metadata": {"adapter_type": "duckdb", "project_name": "shop"},
        "nodes": {entry["unique_id"]: entry for entry in nodes},
        "sources": {entry["unique_id"]: entry for entry in sources},
        "macros": {"macro.dbt.ref": {"macro_sql": "{% macro ref() %}"}},
        "docs": {"doc.dbt.__overview__": {"block_contents": "…"}},
        "exposures": {},
        "metrics": {},
        "groups": {},
        "selectors": {},
        "disabled": {},
        "parent_map": {entry["unique_id"]: entry["depends_on"]["nodes"] for entry in every},
        "child_map": {entry["unique_id"]: [] for entry in every},
        "semantic_models": {},
        "saved_queries": {},
        "unit_tests": {},
        **changes,
    }
