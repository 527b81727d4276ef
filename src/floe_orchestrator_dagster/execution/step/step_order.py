"""Order of a Dagster run's steps that run dbt: the first emits the start of the product's run, the last its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.lineage.events.run import State


@dataclass(frozen=True)
class RunSteps:
    """Progress of the steps of a Dagster run that run dbt.

    Attributes:
        upstream: Of each of them, the steps that it waits for, directly or through others.
        started: Those that have started, in that order.
        ended: Whether those that have ended succeeded; one that Dagster tries again has not ended.
    """

    upstream: Mapping[str, AbstractSet[str]]
    started: Sequence[str]
    ended: Mapping[str, bool]

    def is_first(self, step: str) -> bool:
        """Whether no other step has started before this one."""
        return next(iter(self.started), step) == step

    def end_with(self, step: str, state: State) -> State | None:
        """Say how the product's run ends with the end of a step; None while other steps are still to end.

        A step that waits for a failed one never comes; of an interrupted run none comes that has not started. When the
        last two end at the same moment, each may see the other still running: then the sensor emits the end.

        Args:
            step: The step that ends now.
            state: How it ends, for good.
        """
        failed = {key for key, succeeded in self.ended.items() if not succeeded}
        if state != "COMPLETE":
            failed.add(step)
        waiting = [key for key in self.upstream if key != step and key not in self.ended]
        left = [key for key in waiting if key in self.started or (state != "ABORT" and not self.upstream[key] & failed)]
        if left:
            return None
        return "FAIL" if failed and state == "COMPLETE" else state
