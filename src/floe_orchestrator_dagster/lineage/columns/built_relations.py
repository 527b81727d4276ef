"""Known names and columns of the relations of a dbt invocation, and their column lineage."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.lineage.columns.qualification import Relation
from floe_orchestrator_dagster.lineage.columns.sql_lineage import column_lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeRelation, NodeStart
    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.product.manifest import Manifest

logger = logging.getLogger(__name__)

_ADDED_BY_SNAPSHOTS = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")


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
        return column_lineage(
            result.compiled_code, self._adapter, relations, columns, node=result.unique_id, log=self._log
        )

    def _relation(self, unique_id: str) -> Relation | None:
        node, known, reported = self._node(unique_id), self._columns.get(unique_id), self._names.get(unique_id)
        name = reported.name if reported else node.get("relation_name")
        columns = tuple(known if known is not None else node.get("columns") or {})
        return Relation(unique_id, str(name), columns, is_complete=known is not None) if name else None

    def _node(self, unique_id: str) -> Mapping[str, Any]:
        content = self._manifest.content
        found: Mapping[str, Any] = content["nodes"].get(unique_id) or content["sources"].get(unique_id) or {}
        return found


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
