"""Results of dbt's nodes in the run's log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.dbt.results import Results

_LOG_SECONDS = 1.0


class NodeLog:
    """Writes results to the run's log: failures at once, others in one entry per second, to limit the cost."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        """Start without pending lines."""
        self._log = log
        self._lines: list[str] = []
        self._since = time.monotonic()

    def write(self, results: Results, result: NodeResult) -> None:
        """Write a node's result, or add it to the pending lines."""
        line = result_line(results, result)
        if result.has_failed or result.was_skipped:
            self.flush()
            log = self._log.error if result.has_failed else self._log.warning
            log("%s%s", line, f"\n{result.message}" if result.message else "")
            return
        self._lines.append(line)
        self.flush_when_due()

    def flush_when_due(self) -> None:
        """Write the pending lines if the last entry is more than a second old."""
        if time.monotonic() - self._since >= _LOG_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the pending lines."""
        if self._lines:
            self._log.info("%s", "\n".join(self._lines))
        self._lines = []
        self._since = time.monotonic()


def result_line(results: Results, result: NodeResult) -> str:
    """Return a node's result in one line, such as ``17/48 success model orders, 0.31 s``."""
    count = f"{results.counted}/{results.expected} " if results.expected else f"{results.counted} "
    kind = result.resource_type.replace("_", " ")
    ending = f"{count if result.is_counted else ''}{result.status} {kind} {result.name}"
    if result.was_skipped:
        causes = [failed.name for failed in results.causes(result)]
        return f"{ending} because of {', '.join(causes)}" if causes else ending
    rows = f", {result.rows_affected} rows" if result.rows_affected is not None else ""
    return f"{ending}{rows}, {result.seconds:.2f} s"
