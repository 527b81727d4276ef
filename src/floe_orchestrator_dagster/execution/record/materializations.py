"""Dagster's events for the results of dbt nodes.

These metadata have the same names and meanings as in dagster-dbt: ``unique_id``, ``invocation_id``, ``Execution
Duration`` (seconds), ``status``, ``dagster_dbt/failed_row_count``, ``dagster/column_schema``.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult

_QUERY_LIMIT = 20_000  # characters; longer queries are only in their file


def materialization(
    result: NodeResult,
    output: str,
    node: Mapping[str, Any],
    compiled: Path | None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> dg.Output[None]:
    """Return the output of an asset whose table was built.

    Args:
        result: The node's result.
        output: Name of the asset's output.
        node: The node in dbt's manifest.
        compiled: File with the compiled SQL; None without one.
        more: Additional metadata: column lineage and name of the table.
    """
    metadata = {
        **_common(result),
        **({"rows_affected": result.rows_affected} if result.rows_affected is not None else {}),
        **({"dagster/column_schema": _schema(result, node)} if result.columns else {}),
        **({"compiled_sql": dg.MetadataValue.path(compiled)} if compiled else {}),
        **more,
    }
    return dg.Output(None, output_name=output, metadata=metadata)


def test_result(
    result: NodeResult,
    key: dg.AssetCheckKey,
    severities: Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity],
    compiled: Path | None,
) -> dg.AssetCheckResult | None:
    """Return the check result of a test; None when dbt did not run it.

    The severity is the declared one (``severities``), else dbt's: WARN when the test only warns. The metadata of a test
    that found rows have a query for these rows.
    """
    if result.was_skipped:
        return None
    passed = result.passed
    failed_rows = {} if result.failed_rows is None else {"dagster_dbt/failed_row_count": result.failed_rows}
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=passed,
        severity=severities.get(key) or _severity(result),
        description=None if passed else result.message or None,
        metadata={**_common(result), **failed_rows, **({} if passed else _failed_rows_query(result, compiled))},
    )


def table_metadata(node: Mapping[str, Any]) -> dict[str, str]:
    """Return a node's table name, with the same key as in the metadata of the asset's definition."""
    parts = (node.get("database"), node.get("schema"), node.get("alias"))
    schema = {"floe/schema": node["schema"]} if node.get("schema") else {}
    return {"dagster/table_name": ".".join(part for part in parts if part), **schema}


def unassigned_result(result: NodeResult, product: dg.AssetKey) -> dg.AssetCheckResult:
    """Return a check result of the product for a node that is neither an asset nor a check of the code location.

    Such nodes are functions, and nodes that were added to the project after its manifest was loaded. A retry finds
    those that failed in Dagster's event log, and runs them again.
    """
    return dg.AssetCheckResult(
        asset_key=product,
        check_name=re.sub(r"\W", "_", result.unique_id, flags=re.ASCII),
        passed=not result.has_failed,
        description=result.message or None,
        metadata=_common(result),
    )


def _common(result: NodeResult) -> dict[str, Any]:
    return {
        "unique_id": result.unique_id,
        "invocation_id": result.invocation_id,
        "Execution Duration": dg.FloatMetadataValue(result.seconds),
        "status": result.status,
    }


def _severity(result: NodeResult) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR


def _schema(result: NodeResult, node: Mapping[str, Any]) -> dg.TableSchema:
    """Return the columns of the built table, with their descriptions from the project."""
    declared = {name.lower(): column for name, column in (node.get("columns") or {}).items()}
    return dg.TableSchema(
        [
            dg.TableColumn(name, data_type, description=(declared.get(name.lower()) or {}).get("description") or None)
            for name, data_type in (result.columns or {}).items()
        ]
    )


def _failed_rows_query(result: NodeResult, compiled: Path | None) -> dict[str, Any]:
    if result.relation.name and result.failed_rows is not None:
        shown = f"select * from {result.relation.name}"  # noqa: S608 - not executed; the relation's name comes from dbt
        return {"failed_rows_query": dg.MetadataValue.md(_sql(shown))}
    query = result.compiled_code
    if query is None and compiled is not None and compiled.is_file():
        query = compiled.read_text(encoding="utf-8")
    if query and len(query.strip()) <= _QUERY_LIMIT:
        return {"failed_rows_query": dg.MetadataValue.md(_sql(query.strip()))}
    return {}


def _sql(query: str) -> str:
    return f"```sql\n{query}\n```"
