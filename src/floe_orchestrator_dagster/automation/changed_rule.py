"""The automation rule ``changed``: assets are built after a change of their code, or of the tables that they read.

New rows do not build views, because a query of a view reads them anyway. They build the tables behind the views.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.automation.code_changes import (
    BuildCodes,
    BuiltMeanwhile,
    BuiltWithOtherCode,
    CodeChangedSinceBuild,
    DiffersFromBuild,
    current_fingerprints,
)
from floe_orchestrator_dagster.execution.step.build_facts import project_graph
from floe_orchestrator_dagster.product.trimming import ALWAYS_BUILT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
    from floe_orchestrator_dagster.product.manifest import Manifest

    _Condition = dg.AutomationCondition[Any]

_LABEL = "changed"
# Kinds whose columns only depend on code, unless the node is always built.
_WITH_FIXED_COLUMNS = frozenset({"table", "view", "seed"})
_is = dg.AutomationCondition
_MISSING = _is.missing() & ~_is.will_be_requested()
# A run that builds both an asset and its readers does not build these after the failure of a blocking check.
_BLOCKED = _is.any_checks_match(~_is.check_passed(), blocking_only=True) & ~_is.will_be_requested()


def changed_conditions(translator: ProductTranslator, unique_ids: Iterable[str]) -> dict[str, _Condition]:
    """Return the condition of each asset, by dbt's unique id."""
    codes = BuildCodes(partial(current_fingerprints, translator))
    dbt = translator.product.dbt
    if dbt is None:
        return dict.fromkeys(
            unique_ids, _condition(codes, [_since_handled(_is.any_deps_updated())], [~_is.any_deps_missing()])
        )
    rule = _Rule(translator, dbt.manifest, codes)
    return {unique_id: rule.condition(unique_id) for unique_id in unique_ids}


class _Rule:
    def __init__(self, translator: ProductTranslator, manifest: Manifest, codes: BuildCodes) -> None:
        self._key_of, self._codes, self._nodes = translator.key_of, codes, manifest.content["nodes"]
        self._graph: BuildGraph = project_graph(manifest, translator.key_of, translator.sources.tables)
        self._requested_with_other_code = DiffersFromBuild(codes) & _is.will_be_requested()
        self._built_with_other_code = BuiltWithOtherCode(codes)

    def condition(self, unique_id: str) -> _Condition:
        """Return the condition of an asset."""
        is_view = self._graph.kinds.get(unique_id) == "view"
        read = sorted(one for one in self._graph.inputs(unique_id) if one in self._key_of and one != unique_id)
        requested, updated = [], []
        for one in read:
            is_code = is_view and self._has_fixed_columns(one)
            now = self._requested_with_other_code if is_code else _is.will_be_requested()
            later = self._built_with_other_code if is_code else _is.newly_updated()
            requested.append(_is.asset_matches(self._key_of[one], now))
            updated.append(_is.asset_matches(self._key_of[one], later))
        built = [one for one in read if self._graph.kinds.get(one) != "source"]  # sources rarely have events
        direct = self._graph.direct_inputs(unique_id)
        missing = [_is.asset_matches(self._key_of[one], _MISSING) for one in built if one in direct]
        blocked = [_is.asset_matches(self._key_of[one], _BLOCKED) for one in built]
        triggers = [_any(requested), _since_handled(_any(updated))]
        return _condition(self._codes, triggers, [~found for found in map(_any, (missing, blocked)) if found])

    def _has_fixed_columns(self, unique_id: str) -> bool:
        """Return whether the columns of an input only depend on its code."""
        kind, node = self._graph.kinds.get(unique_id), self._nodes.get(unique_id, {})
        return kind in _WITH_FIXED_COLUMNS and ALWAYS_BUILT not in node


def _since_handled(updated: _Condition | None) -> _Condition | None:
    """Keep a trigger until the asset is requested or built."""
    return updated.since(_is.newly_requested() | _is.newly_updated()) if updated is not None else None


def _condition(codes: BuildCodes, triggers: Iterable[_Condition | None], required: Iterable[_Condition]) -> _Condition:
    """Combine triggers, and conditions that must hold.

    Args:
        codes: The code of the assets and of their last builds.
        triggers: Further triggers besides a change of the asset's own code.
        required: Further conditions that must hold, besides that neither the asset nor an input is being built.
    """
    own: _Condition = CodeChangedSinceBuild(codes)
    trigger = reduce(or_, (found for found in triggers if found is not None), own)
    is_busy = _is.any_deps_in_progress() | _is.in_progress() | BuiltMeanwhile(codes)
    condition = _is.in_latest_time_window() & trigger & ~is_busy
    return reduce(and_, required, condition).with_label(_LABEL)


def _any(conditions: Sequence[_Condition]) -> _Condition | None:
    return reduce(or_, conditions) if conditions else None
