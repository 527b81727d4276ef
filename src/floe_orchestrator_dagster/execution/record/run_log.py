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
    """The run's log of nodes: failures at once, the rest in one entry a second, for an entry costs more than a node."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        """Start with nothing to write."""
        self._log = log
        self._lines: list[str] = []
        self._since = time.monotonic()

    def write(self, results: Results, result: NodeResult) -> None:
        """Take the end of a node."""
        line = results.line(result)
        if result.has_failed or result.was_skipped:
            self.flush()
            log = self._log.error if result.has_failed else self._log.warning
            log("%s%s", line, f"\n{result.message}" if result.message else "")
            return
        self._lines.append(line)
        self.flush_when_due()

    def flush_when_due(self) -> None:
        """Write what has waited long enough."""
        if time.monotonic() - self._since >= _LOG_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._lines:
            self._log.info("%s", "\n".join(self._lines))
        self._lines = []
        self._since = time.monotonic()
