"""Where the columns of a table that was built come from, as Dagster shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.lineage.columns.column_lineage import (
    ColumnLineage,
    Relation,
    column_lineage,
    queried_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.results import Results
    from floe_orchestrator_dagster.product.manifest import Manifest


def table_column_lineage(found: ColumnLineage, key_of: Mapping[str, dg.AssetKey]) -> dg.TableColumnLineage | None:
    """Show the columns that each column of a table takes its values from; None where they come from no asset.

    Args:
        found: Where they come from.
        key_of: Key of every model, seed, snapshot and source, by unique id.
    """
    # Several sources may have one key, and Dagster accepts each column of a key once.
    deps = {
        column: list(
            dict.fromkeys(dg.TableColumnDep(key_of[parent], name) for parent, name in inputs if parent in key_of)
        )
        for column, inputs in found.direct.items()
    }
    known = {column: inputs for column, inputs in deps.items() if inputs}
    return dg.TableColumnLineage(known) if known else None


def column_lineage_of(
    unique_id: str, compiled: Path, adapter: str, manifest: Manifest, results: Results
) -> ColumnLineage | None:
    """Find where the columns of a table come from that has just been built.

    Args:
        unique_id: dbt's id of the table.
        compiled: The file of its compiled SQL; of what has none, dbt reports the query with the result.
        adapter: The dbt adapter, for the SQL's dialect.
        manifest: dbt's manifest.
        results: What the invocation has built so far: their columns are known.

    Returns:
        None for SQL that is not there (a Python model, a seed) or cannot be understood.
    """
    built = results.finished[unique_id]
    sql = built.query or _sql_in(compiled)
    if sql is None:
        return None
    node = {**manifest.content["nodes"].get(unique_id, {}), "resource_type": built.resource_type}
    columns = queried_columns(node, [name for name, _ in built.columns or ()])
    relations = [_relation(parent, manifest, results) for parent in sorted(manifest.relations_read_by(unique_id))]
    return column_lineage(sql, adapter, relations, columns)


def _sql_in(compiled: Path) -> str | None:
    return compiled.read_text(encoding="utf-8") if compiled.suffix == ".sql" and compiled.is_file() else None


def _relation(unique_id: str, manifest: Manifest, results: Results) -> Relation:
    """A table that is read: with the columns that it has just been built with, else those that are documented."""
    node = manifest.content["nodes"].get(unique_id) or manifest.content["sources"].get(unique_id) or {}
    built = results.finished.get(unique_id)
    if built is not None and built.columns:
        return Relation(unique_id, node.get("relation_name") or "", [name for name, _ in built.columns])
    documented = list(node.get("columns") or {})
    return Relation(unique_id, node.get("relation_name") or "", documented, is_complete=False)
