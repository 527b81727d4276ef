"""Freshness policies of assets, from dbt's freshness limits and the SLA of data contracts."""

from __future__ import annotations

import inspect
from ast import literal_eval
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.product.contracts import TableContract

_HAS_FRESHNESS_POLICIES = "freshness_policy" in inspect.signature(dg.AssetSpec.__new__).parameters and hasattr(
    dg.FreshnessPolicy, "time_window"
)
_UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def freshness_attributes(contract: TableContract | None, node: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """Return the freshness policy as an argument of an asset spec; empty without limits, and for Dagster before 1.12.

    dbt's limits take precedence over the contract's. A policy needs ``error_after``: Dagster has none that only warns.

    Args:
        contract: The data contract of the table, if any.
        node: The dbt model or source.
    """
    if not _HAS_FRESHNESS_POLICIES:
        return {}
    limits = _declared(node)
    fail, warn = _duration(limits.get("error_after")), _duration(limits.get("warn_after"))
    if fail is None and contract is not None:
        fail, warn = contract.freshness, None
    if fail is None:
        return {}
    return {"freshness_policy": _policy(fail, warn if warn is not None and warn < fail else None)}


def has_freshness_policy(spec: dg.AssetSpec) -> bool:
    """Return whether an asset has a freshness policy; False for Dagster before 1.12."""
    return _HAS_FRESHNESS_POLICIES and spec.freshness_policy is not None


@cache
def _policy(fail: timedelta, warn: timedelta | None) -> dg.FreshnessPolicy:
    """Return the policy, which many assets share."""
    return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn)


def _declared(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the freshness settings of a source or model.

    dbt up to 1.12 reads only ``build_after`` of a model's settings. Its manifest has the others as they are declared.
    """
    if node.get("resource_type") == "source":
        return _mapping(node.get("freshness"))
    places = (node.get("unrendered_config"), node.get("config"))
    return {
        name: value
        for place in places
        for name, value in _mapping(_literal(_mapping(place).get("freshness"))).items()
        if value is not None  # engines that write all keys
    }


def _duration(limit: object) -> timedelta | None:
    """Return the duration of a limit; None for a missing one and for one that is not a number and a unit."""
    found = _mapping(limit)
    count, unit = found.get("count"), _UNITS.get(str(found.get("period")))
    if not isinstance(count, int) or isinstance(count, bool) or count <= 0 or unit is None:
        return None
    try:
        return count * unit
    except OverflowError:  # longer than Python's longest duration
        return None


def _literal(value: object) -> object:
    """Return the value of a setting; dbt's manifest has the source text of settings in a model's ``config()``."""
    if not isinstance(value, str):
        return value
    try:
        return literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # such as a call of `var()`, or Jinja
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING
