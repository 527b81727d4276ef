"""Graph of a dbt project: what each node reads, directly and through views and ephemeral models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

STORED = frozenset({"table", "incremental", "seed", "snapshot"})
"""Materializations whose rows change only when dbt builds them."""
_LOOKED_THROUGH = frozenset({"ephemeral", "function"})


@dataclass(frozen=True)
class BuildGraph:
    """The nodes of a dbt project and what they read.

    Attributes:
        parents: Unique ids of the direct parents of each node and test.
        kinds: Materialization of each model, ``seed``, ``snapshot``, ``function`` or ``source``, by unique id.
        built_sources: The node that builds the table of a source, by the source's unique id.
        loaded_sources: The sources of ``built_sources`` whose data version is known, too. Somebody else may add rows.
        keeps_views: Whether a view still works after a table that it reads was built again with the same columns.
            Some databases drop it with the old table.
    """

    parents: Mapping[str, Sequence[str]]
    kinds: Mapping[str, str]
    built_sources: Mapping[str, str] = field(default_factory=dict)
    loaded_sources: AbstractSet[str] = frozenset()
    keeps_views: bool = False
    _inputs: dict[str, frozenset[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def inputs(self, unique_id: str) -> frozenset[str]:
        """Return the tables, views and sources whose rows a node reads.

        The result has a view and also what the view reads, because a query of the view reads both.
        """
        if unique_id not in self._inputs:
            self._inputs[unique_id] = self._read(self.parents.get(unique_id, ()), _LOOKED_THROUGH | {"view"})
        return self._inputs[unique_id]

    def direct_inputs(self, unique_id: str) -> frozenset[str]:
        """Return the tables, views and sources that are named in a node's query."""
        return self._read(self.parents.get(unique_id, ()), _LOOKED_THROUGH)

    def read_by_parents(self, unique_id: str) -> list[frozenset[str]]:
        """Return what a query of each direct parent reads: a table or source itself, also what a view reads."""
        return [self._read([parent], _LOOKED_THROUGH | {"view"}) for parent in self.parents.get(unique_id, ())]

    def views_of(self, tables: AbstractSet[str]) -> frozenset[str]:
        """Return the views that read tables, also through other views."""
        views = (unique_id for unique_id, kind in self.kinds.items() if kind == "view")
        return frozenset(view for view in views if self.inputs(view) & tables)

    def _read(self, parents: Sequence[str], looked_through: AbstractSet[str]) -> frozenset[str]:
        found: set[str] = set()
        seen: set[str] = set()
        waiting = list(parents)
        while waiting:
            read = waiting.pop()
            parent = self.built_sources.get(read, read)
            if read in self.loaded_sources:
                found.add(read)
            if parent in seen:
                continue
            seen.add(parent)
            kind = self.kinds.get(parent, "")
            if kind not in _LOOKED_THROUGH:
                found.add(parent)
            if kind in looked_through:
                waiting.extend(self.parents.get(parent, ()))
        return frozenset(found)
