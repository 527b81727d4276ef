"""Failures because of which dbt skipped nodes."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult

_TEST_IDS = ("test.", "unit_test.")


class Causes:
    """The failures so far, and the nodes that each of them blocks.

    A failed node blocks all nodes downstream of it. A failed data test blocks the nodes that are downstream of all its
    parents. A failed unit test blocks its model and all nodes downstream of the model. A blocked model also blocks its
    tests. A failed model with ``on_error: continue`` blocks no node (dbt 1.12); older versions ignore this setting.
    """

    def __init__(self, parents: Mapping[str, Sequence[str]], continued: AbstractSet[str] = frozenset()) -> None:
        """Use the direct parents of each node, by unique id, and the models with ``on_error: continue``."""
        self._parents = parents
        self._continued = continued
        self._waiting: list[NodeResult] = []
        self._found: defaultdict[str, list[NodeResult]] = defaultdict(list)

    def add(self, failed: NodeResult) -> None:
        """Add a failure. The graph is searched when causes are requested, because most failures block no node."""
        self._waiting.append(failed)

    def of(self, unique_id: str) -> Sequence[NodeResult]:
        """Return the failures that block a node, in the order of their occurrence."""
        for failed in self._waiting:
            for blocked in self._blocked_by(failed):
                self._found[blocked].append(failed)
        self._waiting.clear()
        found = self._found.get(unique_id, ())
        # A dbt that ignores `on_error` skips nodes although no other failure is upstream of them.
        return [failed for failed in found if failed.unique_id not in self._continued] or found

    def _blocked_by(self, failed: NodeResult) -> set[str]:
        blocked = self._downstream([failed.unique_id])
        read = self._parents.get(failed.unique_id, ())
        if failed.resource_type == "unit_test":
            blocked |= {*read, *self._downstream(read)}
        elif failed.resource_type == "test" and read:
            waiting = set.intersection(*(self._downstream([unique_id]) for unique_id in read))
            blocked |= {unique_id for unique_id in waiting if not unique_id.startswith(_TEST_IDS)}
            blocked.update(self._children_of(waiting))
        return blocked

    def _downstream(self, unique_ids: Iterable[str]) -> set[str]:
        """Return all nodes downstream of these nodes."""
        found: set[str] = set()
        waiting = [*unique_ids]
        while waiting:
            new = self._children.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    def _children_of(self, unique_ids: Iterable[str]) -> Iterator[str]:
        for unique_id in unique_ids:
            yield from self._children.get(unique_id, ())

    @cached_property
    def _children(self) -> Mapping[str, set[str]]:
        children: defaultdict[str, set[str]] = defaultdict(set)
        for unique_id, read in self._parents.items():
            for parent in read:
                children[parent].add(unique_id)
        return children
