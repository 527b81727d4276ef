"""Outcome of a run that has ended, from Dagster's event log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.automation.alerts.incidents import Fault, Outcome
from floe_orchestrator_dagster.redaction import redact_urls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dagster import DagsterEvent

_EVENTS = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
}
_REUSED = "reused"
_FAILED = "failed"


@dataclass(frozen=True)
class AlertedProduct:
    """What messages need to know of a product.

    Attributes:
        name: Its name.
        keys: Asset key of each dbt node, by unique id.
        owners: Owners of each asset.
        default_owners: Owners of everything else.
    """

    name: str
    keys: Mapping[str, dg.AssetKey]
    owners: Mapping[dg.AssetKey, Sequence[str]]
    default_owners: Sequence[str]

    def owners_of(self, key: dg.AssetKey | None) -> Sequence[str]:
        """Return the owners of an asset; those of the product for None and for an asset without owners."""
        return (self.owners.get(key) if key else None) or self.default_owners


class _Reading:
    """The events of a run, in order. A later result of the same check or asset replaces the earlier one."""

    def __init__(self, product: AlertedProduct) -> None:
        self._product = product
        self.faults: dict[str, Fault] = {}
        self.fine: set[str] = set()
        self.run_failure = ""

    def add(self, event: DagsterEvent) -> None:
        kind = event.event_type
        if kind is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None:
            if _text(event.step_materialization_data.materialization.metadata, "status") != _REUSED:
                self._succeeded(asset_subject(event.asset_key))
        elif kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._evaluated(event.asset_check_evaluation_data)
        elif kind is dg.DagsterEventType.STEP_FAILURE:
            self._step_failed(event)
        elif kind is dg.DagsterEventType.STEP_SUCCESS:
            self._succeeded(_step_subject(event))
        elif kind is dg.DagsterEventType.RUN_FAILURE:
            self.run_failure = event.message or "The run failed."

    def _succeeded(self, subject: str) -> None:
        self.faults.pop(subject, None)
        self.fine.add(subject)

    def _failed(self, fault: Fault) -> None:
        self.fine.discard(fault.subject)
        self.faults[fault.subject] = fault

    def _evaluated(self, found: dg.AssetCheckEvaluation) -> None:
        subject = f"check {found.check_name} of {found.asset_key.to_user_string()}"
        if _text(found.metadata, "status") == _REUSED:
            return
        if found.passed:
            self._succeeded(subject)
            return
        self._failed(
            Fault(
                subject,
                redact_urls(found.description or "It did not pass."),
                self._product.owners_of(found.asset_key),
                found.severity is dg.AssetCheckSeverity.WARN,
                _text(found.metadata, "failed_rows_query"),
            )
        )

    def _step_failed(self, event: DagsterEvent) -> None:
        """Add the nodes that the step's failure lists; for a failure without nodes, the step itself."""
        data = event.step_failure_data
        metadata = data.user_failure_data.metadata if data.user_failure_data else {}
        for fault in self._nodes(metadata):
            self._failed(fault)
        if _FAILED not in metadata:
            described = data.user_failure_data.description if data.user_failure_data else None
            message = described or (data.error.message if data.error else "") or "The step failed."
            self._failed(Fault(_step_subject(event), redact_urls(message.strip()), self._product.default_owners))

    def _nodes(self, metadata: Mapping[str, dg.MetadataValue[Any]]) -> Iterator[Fault]:
        """Find the failed nodes in the tables of a step's failure, without tests, whose checks have evaluations."""
        skipped = [*_rows(metadata, "skipped")]
        for row in _rows(metadata, _FAILED):
            unique_id = str(row.get("node") or "")
            named, _, message = str(row.get("failed", "")).partition(": ")
            if unique_id.startswith(("test.", "unit_test.")):
                continue
            key, name = self._product.keys.get(unique_id), named.partition(" ")[2]
            because = [str(one["skipped"]) for one in skipped if name in str(one.get("because of", "")).split(", ")]
            subject = asset_subject(key) if key else named
            yield Fault(subject, redact_urls(message), self._product.owners_of(key), skipped=because)


def run_outcome(instance: dg.DagsterInstance, run: dg.DagsterRun, page: str, product: AlertedProduct) -> Outcome:
    """Read the outcome of a run that has ended.

    Args:
        instance: The Dagster instance.
        run: The run.
        page: Address of the run's page, or its id.
        product: The product.
    """
    reading = _Reading(product)
    for entry in instance.all_logs(run.run_id, of_type=_EVENTS):
        if entry.dagster_event is not None:
            reading.add(entry.dagster_event)
    job, broken = f"job {run.job_name}", [one for one in reading.faults.values() if not one.is_warning]
    if run.status is dg.DagsterRunStatus.SUCCESS:
        reading.fine.add(job)
    elif run.status is dg.DagsterRunStatus.FAILURE and not broken:
        message = redact_urls(reading.run_failure or "The run failed.")
        reading.faults[job] = Fault(job, message, product.default_owners)
    return Outcome(page, tuple(reading.faults.values()), frozenset(reading.fine))


def asset_subject(key: dg.AssetKey) -> str:
    """Name an asset in messages."""
    return f"asset {key.to_user_string()}"


def _step_subject(event: DagsterEvent) -> str:
    return f"step {event.step_key}"


def _text(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> str:
    value = getattr(metadata.get(name), "value", None)
    return value if isinstance(value, str) else ""


def _rows(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> Iterator[Mapping[str, object]]:
    found = metadata.get(name)
    if isinstance(found, dg.TableMetadataValue):
        yield from (record.data for record in found.records)
