"""Emits the end of OpenLineage runs whose process died: when the Dagster run is over, or as soon as it can be read."""

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

UNSAID = "the run ended without a word of this step"
# The sensor of the run's status comes first: it knows why the run ended.
_OWN_SENSOR_SECONDS = 300
# A run that Dagster does not know was deleted, or belongs to another instance, whose own sensors come first.
_UNKNOWN_SECONDS = 86_400
# A tick ends after 60 s, and sends what waits after this.
_FLUSH_SECONDS = 5.0


def end_left_open(emitter: LineageEmitter, run_id: str, why: str, log: logging.Logger) -> None:
    """End what killed processes of a run have started; a warning where that is not possible, and it stays for later.

    Args:
        emitter: Where events go; its directory is where processes note what they have started.
        run_id: The Dagster run.
        why: Why the run ended; empty when that is not known.
        log: Where warnings go.
    """
    from floe_orchestrator_dagster.lineage.delivery.run_journal import end_open_runs

    why = f"{UNSAID}: {why}" if why else UNSAID
    try:
        end_open_runs(emitter.directory, run_id, why, datetime.now(tz=timezone.utc), emitter.emit)
    except OSError as error:
        what = f"what killed processes of run {run_id} have started cannot be ended ({error})"
        fix = (
            "Let the user of the code server read and write this directory (lineage.spool_dir). Nothing is lost: the "
            "product's sensor `lineage_replay` ends it then."
        )
        log.warning("%s", LineageError(str(emitter.directory), [Problem("", what, fix)]))


def end_what_stayed(context: dg.SensorEvaluationContext, product: Product) -> None:
    """End what could not be ended when its run was over, now that it can be read.

    Raises:
        LineageError: With ``lineage.strict``, a configured backend that cannot be used or has not accepted all events.
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
            end_left_open(emitter, run_id, "", context.log)
        emitter.flush()  # a request that is under way when it closes would be sent again by the replay


def _is_long_over(instance: dg.DagsterInstance, run_id: str, last_written: float) -> bool:
    """Whether nobody else is going to end what a run has left open."""
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return last_written < time.time() - _UNKNOWN_SECONDS
    return record.end_time is not None and record.end_time < time.time() - _OWN_SENSOR_SECONDS
