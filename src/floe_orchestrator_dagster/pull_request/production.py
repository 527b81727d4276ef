"""Production's tables, and the tables and views that a pull request's build creates from them before dbt runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.pull_request.warehouse import Copies, TableName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.pull_request.destination import Destination

_STORED = ("model", "seed", "snapshot", "function")
_BUILT_ON = ("incremental", "snapshot")


@dataclass(frozen=True)
class Production:
    """Production's tables.

    Attributes:
        manifest: The file of production's manifest.
        content: Its content.
    """

    manifest: Path
    content: Mapping[str, Any]

    def table(self, unique_id: str) -> TableName | None:
        """Return the table of a node or source in production; None if there is none."""
        node = self.content["nodes"].get(unique_id) or self.content["sources"].get(unique_id)
        return None if node is None or materialized(node) == "ephemeral" else TableName.of(node)

    @property
    def tables(self) -> Mapping[str, TableName]:
        """The tables of all nodes, by unique id."""
        return {one: table for one in self.content["nodes"] if (table := self.table(one)) is not None}


def materialized(node: Mapping[str, Any]) -> str:
    """Return the materialization of a node of dbt's manifest; empty for sources."""
    return str((node.get("config") or {}).get("materialized") or "")


def is_stored(node: Mapping[str, Any]) -> bool:
    """Return whether dbt writes a table, view or function for a node; also the rows that a test finds."""
    if node["resource_type"] == "test":
        return bool((node.get("config") or {}).get("store_failures"))
    return node["resource_type"] in _STORED and materialized(node) != "ephemeral"


def starts_from_rows(node: Mapping[str, Any]) -> bool:
    """Return whether a build adds to the rows that a node's table has."""
    return materialized(node) in _BUILT_ON


def planned_copies(
    nodes: Mapping[str, Any],
    tables: Mapping[str, TableName],
    selected: Iterable[str],
    production: Production,
    destination: Destination,
) -> Copies:
    """Return the tables of incremental models and snapshots to copy, and the views of sources to create.

    Args:
        nodes: Nodes and sources of the pull request, parsed for the destination.
        tables: The tables of the selected nodes.
        selected: Unique ids of the nodes that dbt runs.
        production: Production's tables.
        destination: The destination of the build.
    """
    growing = (one for one in tables if starts_from_rows(nodes[one]))
    copied = {one: (old, tables[one]) for one in growing if (old := production.table(one)) is not None}
    taken = {table.folded for table in tables.values()}
    views = {}
    for one in sorted(_read_sources(nodes, selected)):
        new = TableName.of(nodes[one])
        before = destination.original(nodes[one], production.table(one))
        if before is not None and new.folded not in {*taken, before.folded}:
            views[one] = (before, new)
    return Copies(copied, views)


def _read_sources(nodes: Mapping[str, Any], selected: Iterable[str]) -> set[str]:
    """Return the sources that the selected nodes read, also through ephemeral models and functions."""
    waiting, found = [*selected], set[str]()
    while waiting:
        node = nodes.get(waiting.pop(), {})
        read = {one for one in (node.get("depends_on") or {}).get("nodes") or () if one in nodes} - found
        found |= read
        waiting += (one for one in read if not is_stored(nodes[one]) or one.startswith("function."))
    return {one for one in found if one.startswith("source.")}
