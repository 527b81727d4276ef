"""Results of a dbt invocation so far: running, finished, failed and skipped nodes, with the causes of skips."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.dbt.node_result import FailedHook, NodeResult, NodeStart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.dbt.node_result import EngineValue


_TEST_IDS = ("test.", "unit_test.")


@dataclass
class Results:
    """The results of an invocation so far.

    Attributes:
        parents: Unique ids of the direct parents of each node.
        expected: Number of nodes that dbt counts; None until dbt reports it.
        continued: Unique ids of the models with ``on_error: continue``.
        finished: Results by unique id, in the order of completion.
        running: Nodes that have started and not ended, by unique id.
        failed_hooks: The on-run hooks that failed; dbt reports them at the end.
        counted: Number of finished nodes that dbt counts.
    """

    parents: Mapping[str, Sequence[str]]
    expected: int | None = None
    continued: AbstractSet[str] = frozenset()
    finished: dict[str, NodeResult] = field(default_factory=dict)
    running: dict[str, NodeStart] = field(default_factory=dict)
    failed_hooks: list[FailedHook] = field(default_factory=list)
    counted: int = 0
    _causes: Causes = field(init=False)

    def __post_init__(self) -> None:
        """Start without failures."""
        self._causes = Causes(self.parents, self.continued)

    def add(self, value: EngineValue) -> None:
        """Add the start or the result of a node, or a failed hook; other values are ignored."""
        if isinstance(value, NodeStart):
            self.running[value.unique_id] = value
        elif isinstance(value, FailedHook):
            self.failed_hooks.append(value)
        elif isinstance(value, NodeResult):
            self.running.pop(value.unique_id, None)
            self.finished[value.unique_id] = value
            self.counted += value.is_counted
            if value.has_failed:
                self._causes.add(value)

    @property
    def running_names(self) -> list[str]:
        """Names of the nodes that have started and not ended."""
        return [unique_id.split(".")[2] for unique_id in self.running]

    @property
    def failed(self) -> list[NodeResult]:
        """The nodes that failed."""
        return [result for result in self.finished.values() if result.has_failed]

    @property
    def skipped(self) -> list[NodeResult]:
        """The nodes that dbt skipped."""
        return [result for result in self.finished.values() if result.was_skipped]

    def causes(self, result: NodeResult) -> Sequence[NodeResult]:
        """Return the failures that caused dbt to skip a node: nodes upstream of it, and tests of these."""
        named = self.finished.get(result.skipped_because_of)
        return self._causes.of(result.unique_id) or ([named] if named is not None else [])

    def summary(self) -> str:
        """Return the numbers of results, such as ``3 failed, 5 skipped because of them, 41 succeeded``."""
        failed, hooks = len(self.failed), len(self.failed_hooks)
        succeeded = sum(result.ending == "succeeded" and result.is_counted for result in self.finished.values())
        skipped = len(self.skipped) + self._skipped_by_hooks
        parts = [f"{hooks} on-run hook{'s' if hooks > 1 else ''} failed"] if hooks else []
        if failed or not hooks:
            parts.append(f"{failed} failed")
        if skipped:
            parts.append(f"{skipped} skipped because of {'it' if failed + hooks == 1 else 'them'}")
        parts.append(f"{succeeded} succeeded")
        return ", ".join(parts)

    @property
    def _skipped_by_hooks(self) -> int:
        """Number of nodes without a result because of an on-run-start hook. Before 1.12, dbt-core runs them anyway."""
        has_failed_first = any(".on-run-start." in hook.name for hook in self.failed_hooks)
        return max(0, (self.expected or 0) - self.counted) if has_failed_first else 0


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
