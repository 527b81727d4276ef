"""An asset definition that computes once what Dagster asks for again and again.

While a step runs, Dagster asks for each output which assets and checks are selected, and for each of those it has the
definition put the set together again: with many assets in one step most of the time goes there. A definition never
changes, so that it can keep its answers.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

logger = logging.getLogger(__name__)


class RememberingAssetsDefinition(dg.AssetsDefinition):
    """The definition that it was made of, and whatever is made of it, with its sets of keys kept."""

    @classmethod
    def of(cls, assets: dg.AssetsDefinition) -> RememberingAssetsDefinition:
        """Copy a definition; nothing is computed or checked again, the two share what they hold."""
        copied = cls.__new__(cls)
        kept = {name for name, kept in vars(cls).items() if isinstance(kept, cached_property)}
        vars(copied).update({name: value for name, value in vars(assets).items() if name not in kept})
        return copied

    @cached_property
    def asset_and_check_keys(self) -> AbstractSet[dg.AssetKey | dg.AssetCheckKey]:
        """Keys of the selected assets and checks."""
        return frozenset(super().asset_and_check_keys)

    def subset_for(self, *args: Any, **kwargs: Any) -> dg.AssetsDefinition:  # noqa: ANN401  # as Dagster's
        """Select assets and checks; the subset remembers too."""
        subset = super().subset_for(*args, **kwargs)
        return subset if isinstance(subset, RememberingAssetsDefinition) else self.of(subset)


def remember_output_keys(context: dg.AssetExecutionContext) -> None:
    """Have a running step compute the keys of its outputs once, not once per output; they never change.

    Dagster has no public place for that; with a Dagster that has not this one either, nothing happens.
    """
    try:
        step = context.op_execution_context.get_step_execution_context()
        keys = frozenset(step.get_output_asset_keys())
        vars(step)["get_output_asset_keys"] = lambda: keys
    except (AttributeError, TypeError) as error:
        logger.info("the step computes the keys of its outputs again and again: %s", error)
