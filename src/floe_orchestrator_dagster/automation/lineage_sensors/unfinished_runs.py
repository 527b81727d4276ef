"""Ends of OpenLineage runs whose process died, emitted after the end of their Dagster run."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import LineageError, Problem
from floe_orchestrator_dagster.lineage.delivery.emitter import emitter_for, spool_directory

if TYPE_CHECKING:
    import logging

    import dagster as dg

    from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
    from floe_orchestrator_dagster.product import Product

END_UNKNOWN = "the run ended before this step reported its end"
# Delay in favour of the run status sensor, which knows why the run ended.
_OWN_SENSOR_SECONDS = 300
# Delay for an unknown run: it was deleted, or it belongs to another instance that has its own sensors.
_UNKNOWN_SECONDS = 86_400
# Time limit for these events. A tick is limited to 60 s, and also sends the pending events of other processes.
_FLUSH_SECONDS = 5.0


def end_open_runs_of(emitter: LineageEmitter, run_id: str, why: str, log: logging.Logger) -> None:
    """Emit the ends of OpenLineage runs that are open because processes of a Dagster run were killed.

    If the journal cannot be read or written, a warning is logged, and the replay sensor tries again.

    Args:
        emitter: Emits the events; its directory has the journals.
        run_id: Id of the Dagster run.
        why: Why the Dagster run ended; empty when unknown.
        log: Logger for warnings.
    """
    from floe_orchestrator_dagster.lineage.delivery.run_journal import end_open_runs

    why = f"{END_UNKNOWN}: {why}" if why else END_UNKNOWN
    try:
        end_open_runs(emitter.directory, run_id, why, datetime.now(tz=timezone.utc), emitter.emit)
    except OSError as error:
        what = f"open OpenLineage runs of killed processes of run {run_id} cannot be ended ({error})"
        fix = (
            "Let the user of the code server read and write this directory (lineage.spool_dir). The product's sensor "
            "`lineage_replay` then emits their ends."
        )
        log.warning("%s", LineageError(str(emitter.directory), [Problem("", what, fix)]))


def end_abandoned_runs(context: dg.SensorEvaluationContext, product: Product) -> None:
    """Emit the ends of OpenLineage runs that could not be emitted when their Dagster run ended.

    Raises:
        LineageError: With ``lineage.strict``: the backend cannot be used, or has not accepted all events.
        OSError: The directory cannot be read.
    """
    from floe_orchestrator_dagster.lineage.delivery.run_journal import last_written, runs_in_journal

    directory = spool_directory(product.name, product.config.lineage)
    runs = [
        run_id
        for run_id in runs_in_journal(directory)
        if _is_long_over(context.instance, run_id, last_written(directory, run_id))
    ]
    config = product.config.lineage
    config = config.model_copy(update={"flush_seconds": min(config.flush_seconds, _FLUSH_SECONDS)})
    emitter = emitter_for(product.artifacts, config, log=context.log) if runs else None
    if emitter is None:
        return
    with emitter:
        for run_id in runs:
            end_open_runs_of(emitter, run_id, "", context.log)
        emitter.flush()  # so that the replay that follows does not repeat an event whose request is in progress


def _is_long_over(instance: dg.DagsterInstance, run_id: str, last_written: float) -> bool:
    """Return whether a Dagster run ended so long ago that the sensor for ended runs does not process it anymore."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return last_written < time.time() - _UNKNOWN_SECONDS
    return record.end_time is not None and record.end_time < time.time() - _OWN_SENSOR_SECONDS
