"""Conversion of check results to evaluations, without Dagster's search through all checks of the step.

Dagster converts an ``AssetCheckResult`` to an evaluation and an output, and searches all checks of the step for each.
With thousands of checks, this takes most of the time. This module converts the results of checks on tables that the
same step has built. Dagster converts all other results, and all of them when the patch is not active.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

# Modules with the class of an evaluation's target: since Dagster 1.11, and before.
_MODULES = (
    "dagster._core.definitions.asset_checks.asset_check_evaluation",
    "dagster._core.definitions.asset_check_evaluation",
)
_TARGET = "AssetCheckEvaluationTargetMaterializationData"
_LOOK_UP = "maybe_fetch_and_get_input_asset_version_info"
_PAGE = 500  # records of one query


def find_problem() -> str | None:
    """Return the reason why the functions of Dagster cannot be replaced; None when they can."""
    from dagster._core.execution.context.system import StepExecutionContext

    if _target_class() is None:
        return f"Dagster has no {_TARGET}"
    return None if hasattr(StepExecutionContext, _LOOK_UP) else f"StepExecutionContext has no {_LOOK_UP}"


@cache
def _target_class() -> Any:  # noqa: ANN401  # a class that is not public
    for name in _MODULES:
        with suppress(ImportError):
            found = getattr(importlib.import_module(name), _TARGET, None)
            if found is not None:
                return found
    return None


def output_names(context: dg.OpExecutionContext) -> dict[dg.AssetKey, str]:
    """Return the output names of a step's selected assets."""
    return {key: name for name, key in context.assets_def.keys_by_output_name.items()}


class Evaluations:
    """The check results of a step.

    Args:
        context: The step's context.
    """

    def __init__(self, context: dg.OpExecutionContext) -> None:
        """Look up the selected checks once."""
        self._step = context.get_step_execution_context()
        self._specs = {spec.key: (name, spec) for name, spec in context.assets_def.check_specs_by_output_name.items()}
        # Dagster converts the results of partitioned runs, because it decides which partition they belong to. It has no
        # conversion for a check with partitions in a run of several.
        is_partitioned = context.has_partition_key or context.has_partition_key_range
        self._context, self._has_several = context, is_partitioned and not context.has_partition_key
        self._is_plain = not is_partitioned and patches.is_active(patches.CHECK_EVALUATIONS)
        self._outputs = output_names(context)
        self._built: set[str] = set()
        self._targets: dict[dg.AssetKey, dict[str, Any]] = {}

    def built(self, output: dg.Output[None]) -> None:
        """Record that a table is built, before its output is yielded to Dagster."""
        self._built.add(output.output_name)

    def events(
        self, result: dg.AssetCheckResult
    ) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation | dg.AssetCheckResult]:
        """Yield the output and evaluation of a result, or the result itself for Dagster to convert.

        dbt also runs tests of sources that the step has not selected. These have an evaluation and no output.
        """
        if result.asset_key is None or result.check_name is None:
            yield result
            return
        key = dg.AssetCheckKey(result.asset_key, result.check_name)
        if key not in self._specs:
            yield _evaluation(key, result)
        elif self._has_several and getattr(self._specs[key][1], "partitions_def", None) is not None:
            yield from self._by_partition(key, result)
        elif not self._is_plain or self._outputs.get(result.asset_key) not in self._built:
            yield result
        else:
            name, spec = self._specs[key]
            yield dg.Output(None, output_name=name)
            yield _evaluation(key, result, self._target(result.asset_key), is_blocking=spec.blocking)

    def kept(
        self, result: dg.AssetCheckResult, target: tuple[int, str, float] | None, read: AbstractSet[str]
    ) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation | dg.AssetCheckResult]:
        """Yield the events of a check that is not evaluated again.

        Args:
            result: Its last result.
            target: Storage id, run id and time of the materialization that it belongs to; None without one.
            read: Names of the outputs that other steps depend on. Only these need an output, which is an event, too.
        """
        key = dg.AssetCheckKey(result.asset_key, result.check_name) if result.asset_key and result.check_name else None
        if key is None or key not in self._specs:
            return
        if not self._is_plain:
            yield from self.events(result)
            return
        name, spec = self._specs[key]
        if name in read:
            yield dg.Output(None, output_name=name)
        found = _target_class()(storage_id=target[0], run_id=target[1], timestamp=target[2]) if target else None
        yield _evaluation(key, result, found, is_blocking=spec.blocking)

    def _by_partition(
        self, key: dg.AssetCheckKey, result: dg.AssetCheckResult
    ) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation]:
        """Yield an evaluation for each partition of the run, which dbt has tested together, and one output."""
        name, spec = self._specs[key]
        yield dg.Output(None, output_name=name)
        if key.asset_key not in self._targets:  # dbt runs tests after their models, so this is read once
            self._targets[key.asset_key] = self._partition_targets(key.asset_key)
        targets = self._targets[key.asset_key]
        for partition in self._context.partition_keys:
            yield _evaluation(key, result, targets.get(partition), is_blocking=spec.blocking, partition=partition)
            result = result._replace(metadata=_without_rows(result.metadata))

    def _partition_targets(self, asset: dg.AssetKey) -> dict[str, Any]:
        """Return the reference to the latest materialization of each partition of the run.

        Dagster shows the result of a partition only if it refers to the partition's latest materialization.
        """
        instance, event = self._context.instance, dg.DagsterEventType.ASSET_MATERIALIZATION
        wanted = set(self._context.partition_keys)
        latest = instance.event_log_storage.get_latest_storage_id_by_partition(asset, event, wanted)
        ids = sorted(latest.values())
        found = {}
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            for record in instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=asset, storage_ids=page), limit=len(page)
            ).records:
                found[record.storage_id] = _target_class()(
                    storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
                )
        return {partition: found[row] for partition, row in latest.items() if row in found}

    def _target(self, asset: dg.AssetKey) -> Any:  # noqa: ANN401  # its class is not public
        """Return the reference to the asset's materialization, which Dagster reads once per asset and step."""
        found = getattr(self._step, _LOOK_UP)(asset)
        if found is None or found.event_type is not dg.DagsterEventType.ASSET_MATERIALIZATION:
            return None
        return _target_class()(storage_id=found.storage_id, run_id=found.run_id, timestamp=found.timestamp)


def _without_rows(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata without queries and rows, which the first partition of a run has for all of them."""
    large = (dg.MarkdownMetadataValue, dg.TableMetadataValue)
    return {name: value for name, value in metadata.items() if not isinstance(value, large)}


def _evaluation(
    key: dg.AssetCheckKey,
    result: dg.AssetCheckResult,
    target: Any = None,  # noqa: ANN401  # as above
    *,
    is_blocking: bool | None = None,
    partition: str | None = None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.passed,
        metadata=result.metadata,
        target_materialization_data=target,
        severity=result.severity,
        description=result.description,
        blocking=is_blocking,
        **({"partition": partition} if partition is not None else {}),  # Dagster before 1.13 has no such argument
    )
