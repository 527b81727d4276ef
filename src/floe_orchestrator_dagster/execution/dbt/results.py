"""Results of a dbt invocation so far: running, finished, failed and skipped nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.dbt.causes import Causes
from floe_orchestrator_dagster.execution.dbt.engine_values import FailedHook
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult, NodeStart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.dbt.engine_values import EngineValue


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
        """Return the failures because of which dbt skipped a node: nodes upstream of it, and tests of these."""
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
