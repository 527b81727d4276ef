"""Automation conditions that compare the code of assets with the code of their last builds.

Dagster's own ``code_version_changed`` compares with the previous evaluation: it misses changes before the first
evaluation, and builds of older code that end later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import ref

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.execution.step.build_history import OTHER_ROWS, recorded_build
from floe_orchestrator_dagster.product.build_fingerprints import build_fingerprints
from floe_orchestrator_dagster.product.compute_manifests import compute_manifest
from floe_orchestrator_dagster.upstream.dagster_materializations import latest_materializations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.upstream.dagster_materializations import Materialization


@dataclass(frozen=True)
class CodeComparison:
    """The code of an asset, and that of its last build.

    Attributes:
        current: The current code.
        built: The code of the last build, or its event if it had other rows; None for an asset that was never built.
    """

    current: str
    built: str | None

    @property
    def differs(self) -> bool:
        """Whether the last build had other code."""
        return self.current != self.built


class BuildCodes:
    """The code of all assets of a product and of their last builds, read once per evaluation of the conditions."""

    def __init__(self, fingerprints: Callable[[], Mapping[dg.AssetKey, str]]) -> None:
        """Remember how the current fingerprints are computed, by asset key; assets without one have none."""
        self._read_fingerprints = fingerprints
        self._fingerprints: Mapping[dg.AssetKey, str] = {}
        self._last: Mapping[dg.AssetKey, Materialization] = {}
        self._view: Callable[[], object] = lambda: None

    def compare(self, context: dg.AutomationContext[dg.AssetKey]) -> CodeComparison:
        """Compare the code of the context's asset with that of its last build.

        Builds without a record of their fingerprint are compared by Dagster's code version. A build with other rows
        than usual, such as one with ``--empty``, differs from all code.
        """
        self._read(context)
        last, current = self._last.get(context.key), self._fingerprints.get(context.key)
        code_version = context.asset_graph_view.asset_graph.get(context.key).code_version or ""
        if last is None:
            return CodeComparison(current or code_version, None)
        if OTHER_ROWS in last.metadata:
            return CodeComparison(current or code_version, f"event {last.storage_id}")
        record = recorded_build(last)
        if record is not None and current:
            return CodeComparison(current, record.fingerprint)
        return CodeComparison(code_version, last.code_version if last.code_version is not None else code_version)

    def built(self, context: dg.AutomationContext[dg.AssetKey]) -> tuple[str | None, str | None]:
        """Return the fingerprint and the code version of the last build; None for one that it did not record."""
        self._read(context)
        last = self._last.get(context.key)
        record = recorded_build(last) if last is not None else None
        return record.fingerprint if record else None, last.code_version if last else None

    def is_built_meanwhile(self, context: dg.AutomationContext[dg.AssetKey]) -> bool:
        """Return whether the asset was built after the last event that the evaluation takes into account."""
        self._read(context)
        last = self._last.get(context.key)
        return last is not None and last.storage_id > (context.asset_graph_view.last_event_id or 0)

    def _read(self, context: dg.AutomationContext[dg.AssetKey]) -> None:
        view = context.asset_graph_view
        if self._view() is not view:
            self._fingerprints = self._read_fingerprints()
            self._last = latest_materializations(view.instance, self._fingerprints)
            self._view = ref(view)


class CodeChangedSinceBuild(dg.AutomationCondition[dg.AssetKey]):
    """True from a change of an asset's code until it is requested. A failed build is not requested again."""

    def __init__(self, codes: BuildCodes) -> None:
        """Compare with these codes."""
        self._codes = codes

    @property
    def name(self) -> str:
        """The condition's name on Dagster's pages."""
        return "code_changed_since_build"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the pair of current and built code with the pair for which the asset was requested last."""
        comparison = self._codes.compare(context)
        pair = json.dumps([comparison.current, comparison.built])
        seen, requested = json.loads(context.cursor) if context.cursor else (None, None)
        previous = context.get_previous_requested_subset(context.key)
        if previous is not None and not previous.is_empty:
            requested = seen
        is_true = comparison.differs and pair != requested
        subset = context.candidate_subset if is_true else context.get_empty_subset()
        return dg.AutomationResult(context, subset, cursor=json.dumps([pair, requested]))


class DiffersFromBuild(dg.AutomationCondition[dg.AssetKey]):
    """True while the last build of an asset has other code."""

    def __init__(self, codes: BuildCodes) -> None:
        """Compare with these codes."""
        self._codes = codes

    @property
    def name(self) -> str:
        """The condition's name on Dagster's pages."""
        return "differs_from_build"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the codes."""
        is_true = self._codes.compare(context).differs
        return dg.AutomationResult(context, context.candidate_subset if is_true else context.get_empty_subset())


class BuiltMeanwhile(dg.AutomationCondition[dg.AssetKey]):
    """True if an asset was built while the conditions are evaluated, which Dagster's conditions do not see yet.

    Its run may have ended since, so that the asset is not in progress either.
    """

    def __init__(self, codes: BuildCodes) -> None:
        """Look at these builds."""
        self._codes = codes

    @property
    def name(self) -> str:
        """The condition's name on Dagster's pages."""
        return "built_meanwhile"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the last build with the evaluation's last event."""
        is_true = self._codes.is_built_meanwhile(context)
        return dg.AutomationResult(context, context.candidate_subset if is_true else context.get_empty_subset())


class BuiltWithOtherCode(dg.AutomationCondition[dg.AssetKey]):
    """True in the evaluation after a build of an asset with other code than the build before."""

    def __init__(self, codes: BuildCodes) -> None:
        """Compare with these codes."""
        self._codes = codes

    @property
    def name(self) -> str:
        """The condition's name on Dagster's pages."""
        return "built_with_other_code"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the code of the last build with that in the previous evaluation."""
        fingerprint, code_version = built = self._codes.built(context)
        before, before_version = json.loads(context.cursor) if context.cursor else built
        # A build without a record, such as one of an outdated manifest, only has a code version.
        is_true = before != fingerprint if before and fingerprint else before_version != code_version
        subset = context.candidate_subset if is_true else context.get_empty_subset()
        return dg.AutomationResult(context, subset, cursor=json.dumps(built))


def current_fingerprints(translator: ProductTranslator) -> dict[dg.AssetKey, str]:
    """Compute the fingerprints of a product's dbt assets, by asset key."""
    product, dbt = translator.product, translator.product.dbt
    if dbt is None:
        return {}
    attributes = AssetAttributes(product)
    compute_of = {node["unique_id"]: attributes.compute(attributes.names(node)) for node in dbt.manifest.asset_nodes}
    manifests = {name: compute_manifest(dbt, name) for name in sorted({*compute_of.values()})}
    by_compute = {name: build_fingerprints(found, dbt.on(name)) for name, found in manifests.items() if found}
    codes = {node: by_compute.get(compute, {}).get(node) for node, compute in compute_of.items()}
    return {translator.key_of[node]: code.value if code else "" for node, code in codes.items()}
