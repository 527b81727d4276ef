"""``@dbt_assets`` for known nodes, without dbt's selection engine.

To select nodes, dagster-dbt imports dbt and builds a manifest and a graph of all nodes. The nodes of a product's stages
are known without this. Therefore this module replaces dagster-dbt's function that selects nodes, for one manifest and
while the decorator runs. The caller checks the resulting assets. When the patch is not active, dbt selects the nodes.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.upstream import patches
from floe_orchestrator_dagster.upstream.dagster_dbt_names import asset_utils

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

# Names of dagster-dbt's function: up to 0.26, and since 0.27.
_NAMES = ("select_unique_ids_from_manifest", "select_unique_ids")
_PARAMETERS = {"select", "exclude", "selector", "manifest_json"}

_replacements: list[Callable[..., AbstractSet[str]]] = []
_preselected: ContextVar[tuple[Mapping[str, Any], AbstractSet[str]] | None] = ContextVar("preselected", default=None)


@contextmanager
def preselected(manifest: Mapping[str, Any], unique_ids: AbstractSet[str]) -> Iterator[bool]:
    """Make ``@dbt_assets`` select ``unique_ids`` of ``manifest``, in this order. Yields whether the patch is active."""
    if not patches.is_active(patches.DBT_SELECTION):
        yield False
        return
    _replace()
    token = _preselected.set((manifest, unique_ids))
    try:
        yield True
    finally:
        _preselected.reset(token)


def find_problem() -> str | None:
    """Return the reason why the function of dagster-dbt cannot be replaced; None when it can."""
    ask_dbt = getattr(asset_utils, _name(), None)
    if ask_dbt is None:
        return f"dagster_dbt.asset_utils has no {' and no '.join(_NAMES)}"
    missing = _PARAMETERS - inspect.signature(ask_dbt).parameters.keys()
    return f"{_name()} has no parameter {', '.join(sorted(missing))}" if missing else None


def _name() -> str:
    return next((name for name in _NAMES if hasattr(asset_utils, name)), "")


def _replace() -> None:
    """Replace dagster-dbt's function, once per process."""
    ask_dbt = getattr(asset_utils, _name())
    if ask_dbt not in _replacements:
        _replacements.append(_answering(ask_dbt))
        setattr(asset_utils, _name(), _replacements[-1])


def _answering(ask_dbt: Callable[..., AbstractSet[str]]) -> Callable[..., AbstractSet[str]]:
    @wraps(ask_dbt)
    def select(*args: Any, **kwargs: Any) -> AbstractSet[str]:  # noqa: ANN401  # dagster-dbt's parameters
        known = _preselected.get()
        if known is not None and kwargs.get("manifest_json") is known[0]:
            return known[1]
        return ask_dbt(*args, **kwargs)

    return select
