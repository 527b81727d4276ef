"""Faster changes of one attribute of asset specs.

When Dagster or dagster-dbt adds metadata to a spec, or removes its automation condition, Dagster checks all attributes
again. This happens once or twice for each asset in a load, and again for each part of a job that a run selects. Here
only the changed attribute is replaced. The methods are replaced for all specs of the process.
"""

from __future__ import annotations

from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[..., dg.AssetSpec]

_MERGE, _REPLACE = "merge_attributes", "replace_attributes"
_METADATA, _CONDITION = "metadata", "automation_condition"


def find_problem() -> str | None:
    """Return the reason why Dagster's methods cannot be replaced; None when they can."""
    for method, attribute in ((_MERGE, _METADATA), (_REPLACE, _CONDITION)):
        own = getattr(dg.AssetSpec, method, None)
        if own is None or getattr(signature(own).parameters.get(attribute), "default", None) is not ...:
            return f"AssetSpec.{method} has no attribute {attribute}"
    bare = dg.AssetSpec("a", metadata={"b": 1}, automation_condition=dg.AutomationCondition.eager())
    try:
        same = bare._replace(metadata={"b": 1, "c": 2}) == bare.merge_attributes(metadata={"c": 2})
    except (AttributeError, TypeError, dg.DagsterError) as error:
        return f"AssetSpec has no _replace: {error}"
    return None if same else "AssetSpec._replace changes other attributes"


def replace_spec_changes() -> None:
    """Replace Dagster's methods in this process. Without effect when the patch is not active."""
    merge: Change = dg.AssetSpec.merge_attributes
    if hasattr(merge, "__wrapped__") or not patches.is_active(patches.ASSET_SPECS):
        return
    dg.AssetSpec.merge_attributes = _merging(merge)  # type: ignore[method-assign]
    dg.AssetSpec.replace_attributes = _replacing(dg.AssetSpec.replace_attributes)  # type: ignore[method-assign]


def _merging(own: Change) -> Change:
    @wraps(own)
    def merge_attributes(self: dg.AssetSpec, **attributes: Any) -> dg.AssetSpec:  # noqa: ANN401  # as Dagster's
        metadata = attributes.get(_METADATA)
        if len(attributes) == 1 and type(metadata) is dict and all(type(key) is str for key in metadata):
            return self._replace(metadata={**self.metadata, **metadata})
        return own(self, **attributes)

    return merge_attributes


def _replacing(own: Change) -> Change:
    @wraps(own)
    def replace_attributes(self: dg.AssetSpec, **attributes: Any) -> dg.AssetSpec:  # noqa: ANN401  # as Dagster's
        if len(attributes) == 1 and attributes.get(_CONDITION, ...) is None:
            return self._replace(automation_condition=None)
        return own(self, **attributes)

    return replace_attributes
