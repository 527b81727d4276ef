"""Asset definition that computes its sets of keys once.

For each output of a step, Dagster reads the set of the definition's selected assets and checks, and computes it again.
With many assets in a step, this takes most of the time. A definition does not change, so that the set can be cached.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_KEYS = "asset_and_check_keys"
_OUTPUT_KEYS = "get_output_asset_keys"


def find_problem() -> str | None:
    """Return the reason why the functions of Dagster cannot be replaced; None when they can."""
    from dagster._core.execution.context.system import StepExecutionContext

    if not isinstance(getattr(dg.AssetsDefinition, _KEYS, None), property):
        return f"AssetsDefinition has no property {_KEYS}"
    if not callable(getattr(StepExecutionContext, _OUTPUT_KEYS, None)):
        return f"StepExecutionContext has no {_OUTPUT_KEYS}"
    return None


def with_keys_kept(assets: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Return a definition that computes its sets of keys once; unchanged when the patch is not active."""
    return RememberingAssetsDefinition.of(assets) if patches.is_active(patches.ASSET_KEYS) else assets


class RememberingAssetsDefinition(dg.AssetsDefinition):
    """A definition that caches its sets of keys, and whose subsets do so, too."""

    @classmethod
    def of(cls, assets: dg.AssetsDefinition) -> RememberingAssetsDefinition:
        """Return a copy that shares all attributes with the original, without computing or validating them again."""
        copied = cls.__new__(cls)
        kept = {name for name, kept in vars(cls).items() if isinstance(kept, cached_property)}
        vars(copied).update({name: value for name, value in vars(assets).items() if name not in kept})
        return copied

    @cached_property
    def asset_and_check_keys(self) -> AbstractSet[dg.AssetKey | dg.AssetCheckKey]:
        """Keys of the selected assets and checks."""
        return frozenset(super().asset_and_check_keys)

    def subset_for(self, *args: Any, **kwargs: Any) -> dg.AssetsDefinition:  # noqa: ANN401  # Dagster's parameters
        """Return a subset that caches its sets of keys."""
        subset = super().subset_for(*args, **kwargs)
        return subset if isinstance(subset, RememberingAssetsDefinition) else self.of(subset)


def remember_output_keys(context: dg.AssetExecutionContext) -> None:
    """Cache the keys of a running step's outputs, which Dagster computes for each output.

    Without effect when the patch is not active.
    """
    if not patches.is_active(patches.ASSET_KEYS):
        return
    try:
        step = context.op_execution_context.get_step_execution_context()
        keys = frozenset(step.get_output_asset_keys())
        vars(step)[_OUTPUT_KEYS] = lambda: keys
    except (AttributeError, TypeError) as error:
        patches.give_up(patches.ASSET_KEYS, str(error))
