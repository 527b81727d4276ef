"""Dagster's types of inputs and outputs, taken as they are.

Each input and output resolves its type, an output twice, by all that an annotation may be: a twentieth of a load. The
type of those of dbt's nodes is ``Nothing``, or is resolved already. Dagster's function is asked for all else.
"""

from __future__ import annotations

import logging
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions import input as inputs
from dagster._core.definitions import output as outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

logger = logging.getLogger(__name__)

_RESOLVE = "resolve_dagster_type"


@cache
def take_types_as_they_are() -> bool:
    """Put ourselves before Dagster's function, once per process; returns whether that was possible."""
    found: dict[ModuleType, Any] = {module: getattr(module, _RESOLVE, None) for module in (inputs, outputs)}
    for module, resolve in found.items():
        nothing = resolve and resolve(dg.Nothing)
        if not isinstance(nothing, dg.DagsterType) or resolve(nothing) is not nothing:
            logger.info("%s resolves types otherwise than expected, which takes longer", module.__name__)
            return False
    for module, resolve in found.items():
        setattr(module, _RESOLVE, _at_once(resolve))
    return True


def _at_once(resolve: Callable[[object], dg.DagsterType]) -> Callable[[object], dg.DagsterType]:
    nothing, anything = resolve(dg.Nothing), resolve(None)

    @wraps(resolve)
    def resolve_at_once(dagster_type: object) -> dg.DagsterType:
        if dagster_type is dg.Nothing:
            return nothing
        if dagster_type is None:  # that of a check
            return anything
        return dagster_type if isinstance(dagster_type, dg.DagsterType) else resolve(dagster_type)

    return resolve_at_once
