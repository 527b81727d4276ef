"""Dependencies of a job's steps, without a search through all checks for each input.

To connect the steps of a job, Dagster collects the assets of all checks of a step again for each input of the step. A
product with thousands of sources and tests is one step with as many inputs and checks. Dagster looks for checks on the
step's inputs only, which are assets of other definitions. Therefore Dagster's function gets copies of the definitions
without the checks on their own assets. This applies to all jobs of the process.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import cached_property, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from types import ModuleType

    from floe_orchestrator_dagster.upstream.dagster_types import AssetGraph

    Build = Callable[[Any], tuple[Any, Mapping[Any, dg.AssetsDefinition]]]

# Modules of Dagster with the function: since 1.12, and before.
_MODULES = ("dagster._core.definitions.assets.job.asset_job", "dagster._core.definitions.asset_job")
_FUNCTION = "build_node_deps"

_replacements: list[Build] = []


def find_problem() -> str | None:
    """Return why the function of Dagster cannot be replaced; None when it can."""
    build = getattr(_module(), _FUNCTION, None)
    if build is None:
        return f"{' and '.join(_MODULES)} have no {_FUNCTION}"
    parameters = [*inspect.signature(build).parameters]
    if parameters != ["asset_graph"]:
        return f"{_FUNCTION} has the parameters {', '.join(parameters)}"
    return None if isinstance(getattr(dg.AssetsDefinition, "check_keys", None), property) else "check_keys has changed"


def replace_node_dependencies() -> None:
    """Replace Dagster's function in this process. Without effect when the patch is not active."""
    if not patches.is_active(patches.NODE_DEPENDENCIES):
        return
    module = _module()
    build = getattr(module, _FUNCTION)
    if build not in _replacements:
        _replacements.append(_with_fewer_checks(build))
        setattr(module, _FUNCTION, _replacements[-1])


def _module() -> ModuleType | None:
    for name in _MODULES:
        with suppress(ModuleNotFoundError):
            return import_module(name)
    return None


def _with_fewer_checks(build: Build) -> Build:
    @wraps(build)
    def build_node_deps(asset_graph: AssetGraph) -> tuple[Any, Mapping[Any, dg.AssetsDefinition]]:
        shown = {
            id(view): (view, definition) for definition in asset_graph.assets_defs for view in (_shown(definition),)
        }
        try:
            deps, by_handle = build(_Graph(asset_graph, [view for view, _ in shown.values()]))
            return deps, {handle: shown[id(view)][1] for handle, view in by_handle.items()}
        except (AttributeError, KeyError, TypeError) as error:  # a Dagster that uses the graph in another way
            patches.give_up(patches.NODE_DEPENDENCIES, f"{type(error).__name__}: {error}")
            return build(asset_graph)

    return build_node_deps


class _Graph:
    """An asset graph with other definitions."""

    def __init__(self, graph: AssetGraph, assets_defs: Sequence[dg.AssetsDefinition]) -> None:
        self._graph = graph
        self.assets_defs = assets_defs

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any attribute of the graph
        return getattr(self._graph, name)


class _ChecksOnOthers(dg.AssetsDefinition):
    """A copy of a definition that has only the checks on assets of other definitions."""

    @cached_property
    def check_keys(self) -> AbstractSet[dg.AssetCheckKey]:
        own = self.keys
        return frozenset(key for key in super().check_keys if key.asset_key not in own)


def _shown(definition: dg.AssetsDefinition) -> dg.AssetsDefinition:
    if not definition.keys:
        return definition
    copied = _ChecksOnOthers.__new__(_ChecksOnOthers)
    vars(copied).update(vars(definition))
    return copied
