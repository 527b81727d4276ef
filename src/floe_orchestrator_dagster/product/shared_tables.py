"""Tables in a DuckDB file that a model on another DuckDB file reads, and whether it can see them.

dbt looks for a table in the database of the target that reads it. The database of a DuckDB target is its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.product.manifest import declared_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from floe_orchestrator_dagster.product.values import DbtProject, Product

_EXTERNAL = "external"  # a file that dbt-duckdb reads wherever it is


def invisible_tables(product: Product) -> list[Problem]:
    """Return a warning for each table that a model on another compute reads, but cannot see."""
    if product.dbt is None or len(product.dbt.profiles) == 1:
        return []
    computes = {model.name: model.compute for model in product.models}
    names = declared_nodes(computes, product.dbt.manifest.content)
    compute_of = {unique_id: computes[name] for unique_id, name in names.items()}
    return [*_invisible(product.dbt, compute_of)]


def _invisible(dbt: DbtProject, compute_of: Mapping[str, str]) -> Iterator[Problem]:
    nodes = dbt.manifest.content["nodes"]
    for node in dbt.manifest.asset_nodes:
        reading = _duckdb_output(dbt, compute_of.get(node["unique_id"]))
        for parent in sorted(dbt.manifest.relations_read_by(node["unique_id"]) & nodes.keys()):
            read = nodes[parent]
            built = _duckdb_output(dbt, compute_of.get(parent))
            if reading and built and reading["path"] != built["path"] and not _is_seen(read, reading):
                file, other = Path(built["path"]), Path(reading["path"]).name
                what = f"reads {read['name']!r}, which is built in {file.name} and cannot be read from {other}"
                fix = (
                    f"Attach {file.name} to the compute of {node['name']}, and set `+database: {file.stem}` for "
                    f"{read['name']} in dbt. Or build both on one compute."
                )
                yield Problem(node["name"], what, fix)


def _duckdb_output(dbt: DbtProject, compute: str | None) -> Mapping[str, Any] | None:
    """Return the output of a compute if it is a DuckDB file whose path is known."""
    profile = dbt.profiles.get(compute or "", dbt.profile)
    output = profile.outputs.get(profile.target or "")
    is_file = output is not None and output["type"] == "duckdb" and str(output.get("path", "")).startswith("/")
    return output if is_file else None


def _is_seen(node: Mapping[str, Any], output: Mapping[str, Any]) -> bool:
    """Return whether a table is in a database that an output names: its own file, or an attached one."""
    if node["config"].get("materialized") == _EXTERNAL:
        return True
    attached = output.get("attach")
    entries = [entry for entry in attached if isinstance(entry, dict)] if isinstance(attached, list) else []
    names = {str(entry.get("alias") or Path(str(entry.get("path"))).stem) for entry in entries}
    return node["config"].get("database") in {*names, Path(str(output["path"])).stem}
