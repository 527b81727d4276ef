"""Failures and successes of a run that has ended, read from Dagster's event log."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.automation.alerts.incidents import Fault, Outcome
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value
from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

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
_TESTS = ("test.", "unit_test.")
_RETRIED_TAG = "dagster/will_retry"
_PARTITION_TAG = "dagster/partition"
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
# Before Dagster 1.13, an evaluation has no partition.
_HAS_PARTITIONED_CHECKS = "partition" in inspect.signature(dg.AssetCheckEvaluation.__new__).parameters
_OF_ASSET_GRAPH = "__"  # prefix of Dagster's implicit jobs


@dataclass(frozen=True)
class AlertedProduct:
    """Data of a product that its messages contain.

    Attributes:
        name: Its name.
        keys: Asset key of each dbt node, by unique id.
        owners: Owners of each asset.
        partitioned: The assets with partitions.
        default_owners: Owners of everything else.
        timely: The assets with a freshness policy, without sources whose freshness check the product's job runs.
    """

    name: str
    keys: Mapping[str, dg.AssetKey]
    owners: Mapping[dg.AssetKey, Sequence[str]]
    partitioned: AbstractSet[dg.AssetKey]
    default_owners: Sequence[str]
    timely: Sequence[dg.AssetKey] = ()

    def owners_of(self, key: dg.AssetKey) -> Sequence[str]:
        """Return the owners of an asset; those of the product for an asset without owners."""
        return self.owners.get(key) or self.default_owners

    def has_run(self, run: dg.DagsterRun) -> bool:
        """Return whether a run belongs to the product, so that its steps and its end do, too."""
        if PRODUCT_TAG in run.tags:
            return run.tags[PRODUCT_TAG] == tag_value(self.name)
        selected = _selected(run)
        return bool(selected) and selected <= self.owners.keys()

    def may_concern(self, run: dg.DagsterRun) -> bool:
        """Return whether a run can have events of the product's assets."""
        return self.has_run(run) or not _selected(run).isdisjoint(self.owners)


def _selected(run: dg.DagsterRun) -> AbstractSet[dg.AssetKey]:
    checks = {check.asset_key for check in run.asset_check_selection or ()}
    return checks | (run.asset_selection or frozenset())


class _Reading:
    """The events of a run, in order. A later result of the same check or asset replaces the earlier one."""

    def __init__(self, product: AlertedProduct, run: dg.DagsterRun) -> None:
        self._product, self._run = product, run
        self._has_run = product.has_run(run)
        self._tested: set[str] = set()
        self.faults: dict[str, Fault] = {}
        self.fine: dict[str, float] = {}
        self.run_failure = ""

    def add(self, event: DagsterEvent, time: float) -> None:
        kind, key = event.event_type, event.asset_key
        if kind is dg.DagsterEventType.ASSET_MATERIALIZATION and key is not None and key in self._product.owners:
            found = event.step_materialization_data.materialization
            if _text(found.metadata, "status") != _REUSED:
                subject = f"asset {key.to_user_string()}"
                own = found.partition if found.partition is not None else self._partition(key)
                self._succeeded(_of_partition(subject, own), time)
        elif kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._evaluated(event.asset_check_evaluation_data, time)
        elif kind is dg.DagsterEventType.STEP_FAILURE and self._run.status is not dg.DagsterRunStatus.CANCELED:
            self._step_failed(event, time)
        elif kind is dg.DagsterEventType.STEP_SUCCESS and self._has_run:
            self._succeeded(f"step {event.step_key}", time)
        elif kind is dg.DagsterEventType.RUN_FAILURE:
            self.run_failure = event.message or ""

    def _partition(self, key: dg.AssetKey) -> str | None:
        """Return the partition of the run, if the asset has partitions and the run builds one of them."""
        return self._run.tags.get(_PARTITION_TAG) if key in self._product.partitioned else None

    def _range(self, key: dg.AssetKey) -> str:
        """Return the partitions of a run of several, for subjects; empty for other runs and assets."""
        first, last = (self._run.tags.get(tag) for tag in _RANGE_TAGS)
        return f" (partitions {first} to {last})" if first and last and key in self._product.partitioned else ""

    def _succeeded(self, subject: str, time: float) -> None:
        self.faults.pop(subject, None)
        self.fine[subject] = time

    def _failed(self, fault: Fault) -> None:
        self.fine.pop(fault.subject, None)
        self.faults[fault.subject] = fault

    def _evaluated(self, found: dg.AssetCheckEvaluation, time: float) -> None:
        key = found.asset_key
        self._tested.add(_text(found.metadata, "unique_id"))
        if key not in self._product.owners or _text(found.metadata, "status") == _REUSED:
            return
        name = f"check {found.check_name} of {key.to_user_string()}"
        partition = getattr(found, "partition", None) if _HAS_PARTITIONED_CHECKS else self._partition(key)
        subject, several = _of_partition(name, partition), self._range(key) if partition is not None else ""
        if found.passed:
            self._succeeded(subject, time)
            return
        if several:  # dbt tests the partitions of a run together: one fault, not one for each
            subject = f"{name}{several}"
            if subject in self.faults:
                return
        fault = Fault(
            subject,
            redact(found.description or "It did not pass."),
            time,
            key.to_user_string(),
            self._product.owners_of(key),
            found.severity is dg.AssetCheckSeverity.WARN,
            "freshness" if "max_loaded_at" in found.metadata else "check",
            redact(_text(found.metadata, "failed_rows_query")),
            has_end=not several,
        )
        self._failed(fault)

    def _step_failed(self, event: DagsterEvent, time: float) -> None:
        """Add a fault for each failed asset that a step's failure lists.

        If a hook failed, or if there is no list, add one for the step.
        """
        data = event.step_failure_data
        metadata = data.user_failure_data.metadata if data.user_failure_data else {}
        others = []
        for unique_id, what, skipped in self._nodes(metadata):
            key = self._product.keys.get(unique_id)
            if key is not None:
                name, several, message = f"asset {key.to_user_string()}", self._range(key), what.partition(": ")[2]
                subject = f"{name}{several}" if several else _of_partition(name, self._partition(key))
                fault = Fault(
                    subject,
                    message,
                    time,
                    key.to_user_string(),
                    self._product.owners_of(key),
                    kind="asset",
                    skipped=skipped,
                    has_end=not several,
                )
                self._failed(fault)
            elif unique_id not in self._tested:
                others.append(what)
        if _FAILED not in metadata:
            described = data.user_failure_data.description if data.user_failure_data else None
            others.append(described or (data.error.message if data.error else "") or "The step failed.")
        if others and self._has_run:
            message = redact("\n".join(other.strip() for other in others))
            owners = self._product.default_owners
            self._failed(Fault(f"step {event.step_key}", message, time, owners=owners, kind="step"))

    def _nodes(self, metadata: Mapping[str, dg.MetadataValue[Any]]) -> Iterator[tuple[str, str, list[str]]]:
        """Yield the failed nodes in the tables of a step's failure: unique id, name with message, skipped nodes."""
        skipped = [*_rows(metadata, "skipped")]
        for row in _rows(metadata, _FAILED):
            what = redact(str(row.get("failed", "")))
            name = what.partition(": ")[0].partition(" ")[2]
            because = [str(one["skipped"]) for one in skipped if name in str(one.get("because of", "")).split(", ")]
            yield str(row.get("node") or ""), what, because


def run_outcome(instance: dg.DagsterInstance, run: dg.DagsterRun, page: str, product: AlertedProduct) -> Outcome:
    """Read the outcome of a run that has ended.

    If Dagster retries the run, only successes and warnings are returned, because the retry does not repeat them.

    Args:
        instance: The Dagster instance.
        run: The run.
        page: Address of the run's page, or its id.
        product: The product.
    """
    reading, last = _Reading(product, run), 0.0
    for entry in instance.all_logs(run.run_id, of_type=_EVENTS):
        if entry.dagster_event is not None:
            reading.add(entry.dagster_event, entry.timestamp)
            last = max(last, entry.timestamp)
    if run.tags.get(_RETRIED_TAG) == "true":
        warnings = tuple(fault for fault in reading.faults.values() if fault.is_warning)
        return Outcome(page, warnings, reading.fine)
    job, broken = f"job {run.job_name}", [one for one in reading.faults.values() if not one.is_warning]
    is_of_graph = run.job_name.startswith(_OF_ASSET_GRAPH)
    if run.status is dg.DagsterRunStatus.SUCCESS and product.has_run(run) and not is_of_graph:
        reading.fine[job] = last
    elif run.status is dg.DagsterRunStatus.FAILURE and product.has_run(run) and not broken:
        subject = "run of assets" if is_of_graph else job
        message = redact(reading.run_failure or "The run failed.")
        owners = product.default_owners
        reading.faults[subject] = Fault(subject, message, last, owners=owners, kind="job", has_end=not is_of_graph)
    return Outcome(page, tuple(reading.faults.values()), reading.fine)


def _of_partition(subject: str, partition: str | None) -> str:
    return subject if partition is None else f"{subject} (partition {partition})"


def _text(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> str:
    value = getattr(metadata.get(name), "value", None)
    return value if isinstance(value, str) else ""


def _rows(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> Iterator[Mapping[str, object]]:
    found = metadata.get(name)
    if isinstance(found, dg.TableMetadataValue):
        yield from (record.data for record in found.records)
