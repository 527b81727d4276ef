"""Dagster's events for the result of a dbt node, and its column lineage as metadata.

These keys of the metadata have the same meaning as in dagster-dbt: ``invocation_id``, ``Execution Duration`` (seconds),
``status``, ``dagster_dbt/failed_row_count``, ``dagster/column_schema``, and ``unique_id`` of checks. Materializations
have the unique id under the key of the asset's definition, so that the asset's page shows it once. Not in dagster-dbt
is ``floe/started``, the time of the node's start.
"""

from __future__ import annotations

import re
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage


SHOWN_ELSEWHERE = frozenset({"model", "column_name"})
"""Arguments of generic tests that are not described as such: the asset of the check, and the column."""

NODE_ID = "dagster_dbt/unique_id"
"""Key of the unique id in the metadata of assets, which dagster-dbt defines."""

_VALUE_LIMIT = 200  # characters of a value in a failed row
_QUERY_LIMIT = 20_000  # characters; a longer query is only in its file


def materialization(  # noqa: PLR0913, PLR0917  # an event has all of these
    result: NodeResult,
    output: str,
    node: Mapping[str, Any],
    compiled: Path | None,
    more: Mapping[str, Any] = MappingProxyType({}),
    version: str | None = None,
) -> dg.Output[None]:
    """Create the output of an asset whose table was built.

    Args:
        result: The node's result.
        output: Name of the asset's output.
        node: The node in dbt's manifest.
        compiled: File with its compiled SQL; None without one.
        more: Additional metadata, such as column lineage and the table's name.
        version: Data version of the table; None for Dagster's, which is a hash of code and inputs.
    """
    metadata = {
        NODE_ID: result.unique_id,
        **_common(result),
        **({"rows_affected": result.rows_affected} if result.rows_affected is not None else {}),
        **({"dagster/column_schema": column_schema(result.columns, node)} if result.columns else {}),
        **({"dagster/row_count": result.row_count} if result.row_count is not None else {}),
        **({"compiled_sql": dg.MetadataValue.path(compiled)} if compiled else {}),
        **more,
    }
    return versioned_output(output, metadata, version)


def versioned_output(output: str, metadata: Mapping[str, Any], version: str | None) -> dg.Output[None]:
    """Create an output with a data version; None for Dagster's, which is a hash of code and inputs."""
    if version is None:
        return dg.Output(None, output_name=output, metadata=metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dagster calls the argument beta since version 1.10
        return dg.Output(None, output_name=output, metadata=metadata, data_version=dg.DataVersion(version))


def column_schema(columns: Mapping[str, str], node: Mapping[str, Any]) -> dg.TableSchema:
    """Return the table's columns with their types in the database and their descriptions in the project.

    Args:
        columns: The type by column name.
        node: The node in dbt's manifest.
    """
    declared = {name.lower(): column for name, column in (node.get("columns") or {}).items()}
    return dg.TableSchema(
        [
            dg.TableColumn(name, data_type, description=(declared.get(name.lower()) or {}).get("description") or None)
            for name, data_type in columns.items()
        ]
    )


def test_result(
    result: NodeResult,
    key: dg.AssetCheckKey,
    severities: Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity],
    compiled: Path | None,
    node: Mapping[str, Any],
) -> dg.AssetCheckResult | None:
    """Create the result of the check for a dbt test; None when dbt skipped the test.

    The severity is the declared one (``severities``), else dbt's: WARN for a test that only warns. A test that did not
    pass has its column, its arguments, and the query of the failing rows in its metadata.
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
        metadata={
            "unique_id": result.unique_id,
            **_common(result),
            **failed_rows,
            **({} if passed else _failure(result, node, compiled)),
        },
    )


def table_metadata(node: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of a node's table, with the same key as in the metadata of its asset's definition."""
    parts = (node.get("database"), node.get("schema"), node.get("alias"))
    return {"dagster/table_name": ".".join(part for part in parts if part)}


def unassigned_result(result: NodeResult, product: dg.AssetKey) -> dg.AssetCheckResult:
    """Create a check result on the product's asset for a node that is neither an asset nor a check.

    These are nodes that were added to the project after its manifest was loaded, and nodes such as functions. A retry
    finds in Dagster's event log which of them failed, and runs them again.
    """
    return dg.AssetCheckResult(
        asset_key=product,
        check_name=re.sub(r"\W", "_", result.unique_id, flags=re.ASCII),
        passed=not result.has_failed,
        description=result.message or None,
        metadata={"unique_id": result.unique_id, **_common(result)},
    )


def _common(result: NodeResult) -> dict[str, Any]:
    started = result.start_timestamp
    return {
        "invocation_id": result.invocation_id,
        **({"floe/started": dg.TimestampMetadataValue(started)} if started is not None else {}),
        "Execution Duration": dg.FloatMetadataValue(result.seconds),
        "status": result.status,
    }


def _severity(result: NodeResult) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR


def _failure(result: NodeResult, node: Mapping[str, Any], compiled: Path | None) -> dict[str, Any]:
    """Return what a reader of a failed test needs: what it tests, and the rows."""
    arguments = {
        name: value
        for name, value in ((node.get("test_metadata") or {}).get("kwargs") or {}).items()
        if name not in SHOWN_ELSEWHERE
    }
    column = node.get("column_name")
    rows = [dg.TableRecord({name: value[:_VALUE_LIMIT] for name, value in row.items()}) for row in result.rows_found]
    return {
        **({"floe/column": column} if column else {}),
        **({"floe/arguments": dg.JsonMetadataValue(arguments)} if arguments else {}),
        **_failed_rows_query(result, compiled),
        **({"failed_rows": dg.MetadataValue.table(rows)} if rows else {}),
    }


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


def table_column_lineage(found: ColumnLineage, key_of: Mapping[str, dg.AssetKey]) -> dg.TableColumnLineage | None:
    """Convert column lineage to Dagster's type; None when no column comes from an asset.

    Args:
        found: The column lineage.
        key_of: Asset key of every model, seed, snapshot and source that is an asset, by unique id.
    """
    # Several sources can have the same key, and Dagster accepts each column of a key only once.
    deps = {
        column: list(
            dict.fromkeys(dg.TableColumnDep(key_of[parent], name) for parent, name in inputs if parent in key_of)
        )
        for column, inputs in found.direct.items()
    }
    known = {column: inputs for column, inputs in deps.items() if inputs}
    return dg.TableColumnLineage(known) if known else None
