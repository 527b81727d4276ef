"""Execution of a run in this process, with Dagster's storage in SQLite as in ``dagster dev``, or in PostgreSQL."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from pathlib import Path

POSTGRES_VARIABLE = "FLOE_BENCH_POSTGRES"
"""Environment variable with the address of a PostgreSQL for Dagster's storage."""


@dataclass(frozen=True)
class Run:
    """Cost of a run, from its start to its end.

    Events before the start are not included, because the launching process writes them.

    Attributes:
        result: Dagster's result.
        cpu: CPU seconds of this process.
        wall: Seconds.
        first_step: When its first step started, in seconds since the epoch.
    """

    result: Any
    cpu: float
    wall: float
    first_step: float

    @property
    def materializations(self) -> int:
        """How many assets it materialized."""
        return sum(event.is_step_materialization for event in self.result.all_events)


def executed(definitions: Any, job_name: str, assets: Any = None, home: Path | None = None) -> Run:  # noqa: ANN401  # dagster is imported when it is measured
    """Run a job, or some of its assets.

    Args:
        definitions: The definitions.
        job_name: Name of the job.
        assets: Keys of the assets; None for all.
        home: Directory of an instance that lasts; None for a new one.
    """
    import dagster as dg

    job = definitions.get_repository_def().get_job(job_name)
    run_id = str(uuid4())
    url = os.environ.get(POSTGRES_VARIABLE)
    overrides = {"storage": {"postgres": {"postgres_url": url}}} if url else {}
    started: list[tuple[float, float]] = []
    steps: list[float] = []

    def note(entry: dg.EventLogEntry) -> None:
        if entry.dagster_event_type is dg.DagsterEventType.RUN_START:
            started.append((time.process_time(), time.time()))
        elif entry.dagster_event_type is dg.DagsterEventType.STEP_START:
            steps.append(entry.timestamp)

    with (
        nullcontext(home) if home else tempfile.TemporaryDirectory(prefix="floe-bench-") as directory,
        dg.DagsterInstance.local_temp(str(directory), overrides=overrides) as instance,
    ):
        instance.add_event_listener(run_id, note)
        result = job.execute_in_process(instance=instance, run_id=run_id, asset_selection=assets)
        cpu, wall = time.process_time() - started[0][0], time.time() - started[0][1]
    return Run(result, cpu, wall, min(steps))
