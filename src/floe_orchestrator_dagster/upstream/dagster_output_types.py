"""Faster resolution of the types of steps' inputs and outputs.

Dagster resolves the type of each input once, and of each output twice. It tries every kind of annotation that a user
can write. The types of dbt's nodes and checks need no such search: they are ``Nothing``, None or resolved already. The
function is replaced for all definitions of the process.
"""

from __future__ import annotations

from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Resolve = Callable[[object], dg.DagsterType]

# Modules of Dagster that import the function.
_MODULES = ("dagster._core.definitions.input", "dagster._core.definitions.output")
_FUNCTION = "resolve_dagster_type"

# Functions that this module has put in the place of Dagster's.
_replacements: list[Resolve] = []


def find_problem() -> str | None:
    """Return the reason why Dagster's function cannot be replaced; None when it can."""
    for module in _modules():
        resolve: Any = getattr(module, _FUNCTION, None)
        if resolve is None:
            return f"{module.__name__} has no {_FUNCTION}"
        nothing = resolve(dg.Nothing)
        if not isinstance(nothing, dg.DagsterType) or resolve(nothing) is not nothing:
            return f"{_FUNCTION} of {module.__name__} changes a type that is resolved"
    return None


def replace_type_resolution() -> None:
    """Replace Dagster's function in this process. Without effect when the patch is not active."""
    if not patches.is_active(patches.OUTPUT_TYPES):
        return
    for module in _modules():
        resolve = getattr(module, _FUNCTION)
        if resolve not in _replacements:
            _replacements.append(_without_search(resolve))
            setattr(module, _FUNCTION, _replacements[-1])


def _modules() -> list[ModuleType]:
    return [import_module(name) for name in _MODULES]


def _without_search(resolve: Resolve) -> Resolve:
    """Return a replacement of Dagster's function, which it calls for other types."""
    known = {id(annotation): resolve(annotation) for annotation in (dg.Nothing, None)}

    @wraps(resolve)
    def resolve_dagster_type(dagster_type: object) -> dg.DagsterType:
        if isinstance(dagster_type, dg.DagsterType):
            return dagster_type
        return known.get(id(dagster_type)) or resolve(dagster_type)

    return resolve_dagster_type
