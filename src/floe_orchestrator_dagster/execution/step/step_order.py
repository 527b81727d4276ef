"""Order of a Dagster run's dbt steps. The first emits the start of the product's run, the last its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.lineage.events.run import State


@dataclass(frozen=True)
class RunSteps:
    """Progress of the dbt steps of a Dagster run.

    Attributes:
        upstream: All steps upstream of each dbt step.
        started: Steps that have started, in this order.
        ended: Whether each ended step succeeded. A step that Dagster retries has not ended.
    """

    upstream: Mapping[str, AbstractSet[str]]
    started: Sequence[str]
    ended: Mapping[str, bool]

    def is_first(self, step: str) -> bool:
        """Whether no other step has started before this one."""
        return next(iter(self.started), step) == step

    def end_with(self, step: str, state: State) -> State | None:
        """Return the state in which the product's run ends with a step; None if other steps have yet to end.

        Steps downstream of a failed one do not run. In an interrupted run, no more steps start. When the last two steps
        end at the same time, each can see the other still running. Then the sensor emits the end.

        Args:
            step: The step that ends now.
            state: Its final state.
        """
        failed = {key for key, succeeded in self.ended.items() if not succeeded}
        if state != "COMPLETE":
            failed.add(step)
        waiting = [key for key in self.upstream if key != step and key not in self.ended]
        left = [key for key in waiting if key in self.started or (state != "ABORT" and not self.upstream[key] & failed)]
        if left:
            return None
        return "FAIL" if failed and state == "COMPLETE" else state
