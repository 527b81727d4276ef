"""Members of dbt's graph, by the collection of the manifest that lists them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Node = Mapping[str, Any]

COLLECTIONS = (
    "nodes",
    "sources",
    "exposures",
    "metrics",
    "unit_tests",
    "semantic_models",
    "saved_queries",
    "functions",
)


@dataclass(frozen=True)
class Members:
    """The enabled members of a project's graph.

    Attributes:
        collections: Members by unique id, by the collection that lists them.
        project_name: The project's name; None when the manifest has none.
        project: The project's directory.
    """

    collections: Mapping[str, Mapping[str, Node]]
    project_name: str | None
    project: Path

    def of(self, *collections: str) -> Iterator[tuple[str, Node]]:
        """List the members of these collections; without names, the members of all collections."""
        for name in collections or COLLECTIONS:
            yield from self.collections[name].items()

    @cached_property
    def unique_ids(self) -> frozenset[str]:
        """The unique ids of all members."""
        return frozenset(unique_id for unique_id, _ in self.of())
