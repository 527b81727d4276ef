"""``@dbt_assets`` without dbt's selection engine, for nodes that are known already.

To find nodes, dagster-dbt imports dbt's graph and networkx and builds dbt's manifest and a graph of all nodes: a second
and more, to learn what the stages of a product say. Here the function of dagster-dbt that asks dbt is answered in its
place, for one manifest and as long as the decorator runs. The result is compared with what was asked for; where
dagster-dbt is not as expected, dbt selects.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.upstream.dagster_dbt_names import asset_utils

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

logger = logging.getLogger(__name__)

# What dagster-dbt calls it: up to 0.26, and from 0.27.
_NAMES = ("select_unique_ids_from_manifest", "select_unique_ids")
_PARAMETERS = {"select", "exclude", "selector", "manifest_json"}

_preselected: ContextVar[tuple[Mapping[str, Any], AbstractSet[str]] | None] = ContextVar("preselected", default=None)


@contextmanager
def preselected(manifest: Mapping[str, Any], unique_ids: AbstractSet[str]) -> Iterator[bool]:
    """Let ``@dbt_assets`` take ``unique_ids`` of ``manifest``, in their order; yields whether it will.

    It will not with a dagster-dbt that selects otherwise than those which are known.
    """
    if not _is_answered():
        yield False
        return
    token = _preselected.set((manifest, unique_ids))
    try:
        yield True
    finally:
        _preselected.reset(token)


@cache
def _is_answered() -> bool:
    """Put ourselves before dagster-dbt's function, once per process."""
    name = next((name for name in _NAMES if hasattr(asset_utils, name)), "")
    ask_dbt = getattr(asset_utils, name, None)
    if ask_dbt is None or _PARAMETERS - inspect.signature(ask_dbt).parameters.keys():
        logger.info("dagster-dbt selects otherwise than expected: dbt selects the assets, which takes longer")
        return False
    setattr(asset_utils, name, _answering(ask_dbt))
    return True


def _answering(ask_dbt: Callable[..., AbstractSet[str]]) -> Callable[..., AbstractSet[str]]:
    @wraps(ask_dbt)
    def select(*args: Any, **kwargs: Any) -> AbstractSet[str]:  # noqa: ANN401  # as dagster-dbt's, whatever that has
        known = _preselected.get()
        if known is not None and kwargs.get("manifest_json") is known[0]:
            return known[1]
        return ask_dbt(*args, **kwargs)

    return select
