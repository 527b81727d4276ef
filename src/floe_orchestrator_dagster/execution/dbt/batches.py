"""Failed and skipped batches of microbatch models, with the reasons; a model's result only has their number.

https://docs.getdbt.com/docs/build/incremental-microbatch
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from floe_orchestrator_dagster.execution.dbt.core_process import BATCH_ENDED, NODE_RAISED

if TYPE_CHECKING:
    from collections.abc import Mapping

_RAISED = "Exception on worker thread. "
_NOTHING_SAID = ("", "ERROR")
_SHOWN = 20


@dataclass
class Batches:
    """The batches of an invocation's models so far.

    Attributes:
        failed: Failed batches by the model's unique id: the reason by batch (``batch 2026-01-02 of main.orders``).
        skipped: Number of skipped batches, by the model's unique id.
    """

    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    _raised: dict[str, str] = field(default_factory=dict)
    _last: dict[str, str] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Add an event. The events of a batch follow each other in its thread."""
        name = (event.get("info") or {}).get("name")
        if name not in (NODE_RAISED, BATCH_ENDED):
            return
        data, thread = event["data"], str(event["info"].get("thread"))
        if name == NODE_RAISED:
            self._raised[thread] = click.unstyle(str(data.get("exc") or "")).removeprefix(_RAISED).strip()
        else:
            unique_id, status = data["node_info"]["unique_id"], str(data["status"]).lower()
            reason = self._raised.pop(thread, "")
            if status == "error":
                self._last[thread] = str(data["description"])
                self.failed.setdefault(unique_id, {})[self._last[thread]] = reason
            elif status == "skipped":
                self.skipped[unique_id] = self.skipped.get(unique_id, 0) + 1

    def end(self, event: Mapping[str, Any], message: str) -> None:
        """Add the end of a batch as a node. If dbt could not compile the batch, only this event has the reason."""
        unique_id = event["data"]["node_info"]["unique_id"]
        batch = self._last.pop(str(event["info"].get("thread")), "")
        reasons = self.failed.get(unique_id, {})
        if batch in reasons and not reasons[batch] and message not in _NOTHING_SAID:
            reasons[batch] = message

    def explain(self, unique_id: str, message: str) -> str:
        """Return a model's message with its failed batches and their reasons."""
        failed = self.failed.get(unique_id, {})
        lines = [f"{batch}: {reason or 'failed'}" for batch, reason in list(failed.items())[:_SHOWN]]
        if len(failed) > _SHOWN:
            lines.append(f"and {len(failed) - _SHOWN} more batches")
        if self.skipped.get(unique_id):
            lines.append(f"{self.skipped[unique_id]} batches skipped because of these")
        return "\n".join([message, *lines])
