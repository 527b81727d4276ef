"""Names and columns of the relations of a dbt invocation, and their column lineage within limits of length and time."""

from __future__ import annotations

import logging
import subprocess
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.lineage.columns.lineage_process import LimitError, limited_lineage
from floe_orchestrator_dagster.lineage.columns.qualification import Query, Relation
from floe_orchestrator_dagster.lineage.columns.query_lineage import LARGEST_QUERY, query_lineage, query_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeRelation, NodeStart
    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.product.manifest import Manifest


logger = logging.getLogger(__name__)

_FIX = "Split the model, or set dbt.columns to false. The lineage between tables is not affected."
# Limits of queries that are analyzed in this process, in less than half a second of CPU: characters of SQL, and
# expressions after `*` and aliases are expanded.
_SHORT_SQL = 20_000
_SMALL_QUERY = 20_000
_LONGEST_SQL = 500_000  # characters; the tree of a longer query takes hundreds of megabytes
# CPU time for one node. A union of a hundred models of a hundred columns, 300 kB of SQL, takes three seconds.
_CPU_SECONDS = 10
_ADDED_BY_SNAPSHOTS = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")
_CREATED_FROM_QUERIES = ("table", "view")


class BuiltRelations:
    """The relations of one target, from the manifest and from dbt's events during the invocation."""

    def __init__(
        self,
        manifest: Manifest,
        adapter: str,
        columns: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        log: logging.Logger = logger,
    ) -> None:
        """Start with the names and columns that are known before dbt runs.

        Args:
            manifest: dbt's manifest.
            adapter: dbt's name of the adapter, which determines the SQL dialect.
            columns: All columns of each known relation, by unique id: the type by column name.
            log: Receives a warning when the SQL of a node exceeds a limit.
        """
        self._manifest = manifest
        self._log = log
        self._adapter = adapter
        self._columns = {unique_id: dict(known) for unique_id, known in columns.items()}
        self._names: dict[str, NodeRelation] = {}
        self._lineages: dict[tuple[str, str], ColumnLineage | None] = {}

    def learn(self, node: NodeStart | NodeResult) -> None:
        """Record the name of a node's table and its columns; missing values do not replace known ones."""
        if node.relation.name:
            self._names[node.unique_id] = node.relation
        if isinstance(node, NodeResult) and node.columns:
            self._columns[node.unique_id] = dict(node.columns)

    def name(self, unique_id: str) -> NodeRelation | None:
        """Return the name that dbt has reported for a node's table."""
        return self._names.get(unique_id)

    def columns(self, unique_id: str) -> Mapping[str, str] | None:
        """Return all columns of a relation, the type by column name; None when they are unknown."""
        return self._columns.get(unique_id)

    def column_lineage(self, result: NodeResult) -> ColumnLineage | None:
        """Return the cached column lineage of a relation; None without SQL, or when its SQL cannot be parsed.

        Args:
            result: The relation's result, with its compiled query.
        """
        key = result.invocation_id, result.unique_id
        if key not in self._lineages:
            self._lineages[key] = self._computed(result)
        return self._lineages[key]

    def _computed(self, result: NodeResult) -> ColumnLineage | None:
        node = self._node(result.unique_id)
        if not result.is_relation or not result.compiled_code or node.get("language", "sql") != "sql":
            return None
        columns = queried_columns({**node, "resource_type": result.resource_type}, result.columns or ())
        parents = sorted(self._manifest.relations_read_by(result.unique_id))
        relations = [relation for parent in parents if (relation := self._relation(parent))]
        found = column_lineage(
            result.compiled_code, self._adapter, relations, columns, node=result.unique_id, log=self._log
        )
        if found is None or result.columns:
            return found
        if not _is_new_table(result, node):
            return replace(found, output=())
        if found.output:
            self._columns[result.unique_id] = _columns_of_query(node, found.output)
        return found

    def _relation(self, unique_id: str) -> Relation | None:
        node, known, reported = self._node(unique_id), self._columns.get(unique_id), self._names.get(unique_id)
        name = reported.name if reported else node.get("relation_name")
        columns = tuple(known if known is not None else node.get("columns") or {})
        return Relation(unique_id, str(name), columns, is_complete=known is not None) if name else None

    def _node(self, unique_id: str) -> Mapping[str, Any]:
        content = self._manifest.content
        found: Mapping[str, Any] = content["nodes"].get(unique_id) or content["sources"].get(unique_id) or {}
        return found


def _is_new_table(result: NodeResult, node: Mapping[str, Any]) -> bool:
    """Return whether a built table has the columns of its query.

    Tables of incremental models and snapshots keep the columns that they had. dbt creates a table with a contract from
    the columns of the contract.
    """
    has_contract = bool(((node.get("config") or {}).get("contract") or {}).get("enforced"))
    return result.was_built and result.materialized in _CREATED_FROM_QUERIES and not has_contract


def _columns_of_query(node: Mapping[str, Any], output: Sequence[str]) -> dict[str, str]:
    """Return the columns of a new table with their documented types; an undocumented type is empty.

    Args:
        node: The node in dbt's manifest.
        output: The columns of its query.
    """
    types = {str(name).lower(): column.get("data_type") for name, column in (node.get("columns") or {}).items()}
    return {name: str(types.get(name.lower()) or "") for name in output}


def queried_columns(node: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    """List the columns of a table that come from its query. dbt adds columns to snapshots; projects can rename them.

    Args:
        node: The node in dbt's manifest.
        columns: All columns of its table.
    """
    if node.get("resource_type") != "snapshot":
        return list(columns)
    names = (node.get("config") or {}).get("snapshot_meta_column_names")
    chosen = names if isinstance(names, dict) else {}
    added = {str(chosen.get(name) or name).lower() for name in _ADDED_BY_SNAPSHOTS}
    return [name for name in columns if name.lower() not in added]


def column_lineage(  # noqa: PLR0913  # a query needs all of these
    sql: str,
    adapter: str,
    relations: Iterable[Relation],
    output: Sequence[str] = (),
    *,
    node: str = "",
    cpu_seconds: int = _CPU_SECONDS,
    log: logging.Logger = logger,
) -> ColumnLineage | None:
    """Compute the column lineage of a query; None when sqlglot cannot parse or resolve it in time.

    Args:
        sql: Compiled SQL, one query.
        adapter: dbt's name of the adapter, such as ``duckdb``. SQL of an unknown adapter is parsed as standard SQL.
        relations: The tables that the query may read. Other tables in it are not inputs.
        output: The query's actual output columns, if known. They resolve a ``*`` over tables with unknown columns.
        node: dbt's unique id of the node, for the log.
        cpu_seconds: CPU time after which the computation of long or large queries ends.
        log: Receives a warning when the query exceeds a limit.
    """
    if len(sql) > _LONGEST_SQL:
        log.warning("%s has no column lineage: its SQL has more than %d characters. %s", node, _LONGEST_SQL, _FIX)
        return None
    try:
        return _computed(sql, adapter, list(relations), list(output), cpu_seconds)
    except LimitError:
        limits = f"more than {cpu_seconds} s of CPU or 1 GiB of memory"
        log.warning("%s has no column lineage: the analysis of its SQL takes %s. %s", node, limits, _FIX)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("%s has no column lineage: the process that analyzes its SQL failed (%s).", node, _status(error))
    except Exception as error:  # noqa: BLE001  # sqlglot raises many types; lineage must not fail a run
        logger.debug("%s has no column lineage: %s", node, type(error).__name__)  # the message would quote the SQL
    return None


def _computed(
    sql: str, adapter: str, relations: Sequence[Relation], output: Sequence[str], cpu_seconds: int
) -> ColumnLineage:
    if len(sql) <= _SHORT_SQL:
        query = Query(sql, adapter, relations)
        size = query_size(query)
        if size <= _SMALL_QUERY:
            return query_lineage(query, output)
        if size > LARGEST_QUERY:
            raise LimitError
    return limited_lineage(sql, adapter, relations, output, cpu_seconds)


def _status(error: OSError | subprocess.CalledProcessError) -> str:
    return f"exit status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(error)
