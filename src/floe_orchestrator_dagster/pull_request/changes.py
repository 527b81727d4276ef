"""Nodes to build for a pull request, and removed nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.references import called_functions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.state.changes import StateChanges


@dataclass(frozen=True)
class Changes:
    """The nodes to build for a pull request, each with the reason.

    Attributes:
        changed: Models, seeds and snapshots that differ from production's, by unique id.
        affected: Nodes downstream of these, by unique id.
        tests: Tests of both, and tests that differ themselves, by unique id.
        functions: Unique ids of the functions that the nodes call.
        removed: Unique ids of nodes that are only in production, each with the nodes that read it there and still
            exist.
    """

    changed: Mapping[str, str]
    affected: Mapping[str, str]
    tests: Mapping[str, str]
    functions: AbstractSet[str]
    removed: Mapping[str, Sequence[str]]

    @property
    def built(self) -> Mapping[str, str]:
        """The changed and affected nodes."""
        return {**self.changed, **self.affected}

    @property
    def selected(self) -> frozenset[str]:
        """Unique ids of all nodes that dbt runs."""
        return frozenset([*self.changed, *self.affected, *self.tests, *self.functions])


def find_changes(since: StateChanges, content: Mapping[str, Any], production: Mapping[str, Any]) -> Changes:
    """Decide what to build for a pull request.

    Args:
        since: What differs from production.
        content: The content of the pull request's trimmed manifest.
        production: The content of production's trimmed manifest.
    """
    functions = called_functions(content, [*since.changed, *since.downstream, *since.tests])
    return Changes(
        since.changed,
        since.downstream,
        since.tests,
        frozenset[str]().union(*functions.values()),
        {node: [*_readers(node, content, production)] for node in since.removed},
    )


def _readers(unique_id: str, content: Mapping[str, Any], production: Mapping[str, Any]) -> Iterator[str]:
    """List the nodes that read a node in production and still exist."""
    for child in production["child_map"].get(unique_id) or ():
        if child in content["nodes"] and not child.startswith("test."):
            yield child
