"""What dbt's tests found → what Dagster records of the checks.

Of an ``AssetCheckResult`` Dagster makes an evaluation and an output. For each it looks through all checks of the step,
which with thousands of them takes longer than all else, and reads four tables to learn which materialization the check
was about. Of a table that this very step has built both are known or read at once; all other results are Dagster's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData as Target,
    )
except ImportError:  # before Dagster 1.11
    from dagster._core.definitions.asset_check_evaluation import (  # type: ignore[import-not-found,no-redef]
        AssetCheckEvaluationTargetMaterializationData as Target,
    )


class Evaluations:
    """The check results of a step.

    Args:
        context: The step's.
    """

    def __init__(self, context: dg.OpExecutionContext) -> None:
        """Look up the selected checks once."""
        self._instance = context.instance
        self._specs = {spec.key: (name, spec) for name, spec in context.assets_def.check_specs_by_output_name.items()}
        # Whether an evaluation belongs to a partition is Dagster's to say.
        self._is_partitioned = context.has_partition_key or context.has_partition_key_range
        self._built: dict[str, Target | None] = {}

    def built(self, output: dg.Output[None]) -> None:
        """Note that a table is built, and its output about to be handed to Dagster."""
        self._built[output.output_name] = None

    def events(
        self, result: dg.AssetCheckResult
    ) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation | dg.AssetCheckResult]:
        """Turn a result into what Dagster records of it.

        dbt also runs tests of sources that the step has not selected: they have an evaluation and no output.
        """
        if result.asset_key is None or result.check_name is None:
            yield result
            return
        key = dg.AssetCheckKey(result.asset_key, result.check_name)
        if key not in self._specs:
            yield _evaluation(key, result)
        elif self._is_partitioned or result.asset_key.to_python_identifier() not in self._built:
            yield result
        else:
            name, spec = self._specs[key]
            yield dg.Output(None, output_name=name)
            yield _evaluation(key, result, self._target(result.asset_key), is_blocking=spec.blocking)

    def _target(self, asset: dg.AssetKey) -> Target | None:
        name = asset.to_python_identifier()
        if self._built[name] is None:
            for found in self._instance.fetch_materializations(asset, limit=1).records:
                self._built[name] = Target(storage_id=found.storage_id, run_id=found.run_id, timestamp=found.timestamp)
        return self._built[name]


def _evaluation(
    key: dg.AssetCheckKey, result: dg.AssetCheckResult, target: Target | None = None, *, is_blocking: bool | None = None
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
    )
