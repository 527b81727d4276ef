"""Dependencies of a job's steps, without a search through all checks for each input.

To connect the steps of a job, Dagster collects the assets of all checks of a step again for each input of the step. A
product with thousands of sources and tests is one step with as many inputs and checks. Dagster needs these assets for
one purpose: a step that checks one of its inputs does not wait for other blocking checks on this input. Therefore
Dagster's function gets copies of the definitions with at most one check, and the checks that such a step would wait for
are removed from the result. This applies to all jobs of the process.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import cached_property, wraps
from importlib import import_module
from itertools import islice
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
_DEPENDENCIES, _WAITS_FOR_CHECKS = "dagster._core.definitions.dependency", "BlockingAssetChecksDependencyDefinition"

_replacements: list[Build] = []


def find_problem() -> str | None:
    """Return the reason why the function of Dagster cannot be replaced; None when it can."""
    build = getattr(_module(), _FUNCTION, None)
    if build is None:
        return f"{' and '.join(_MODULES)} have no {_FUNCTION}"
    parameters = [*inspect.signature(build).parameters]
    if parameters != ["asset_graph"]:
        return f"{_FUNCTION} has the parameters {', '.join(parameters)}"
    if getattr(import_module(_DEPENDENCIES), _WAITS_FOR_CHECKS, None) is None:
        return f"{_DEPENDENCIES} has no {_WAITS_FOR_CHECKS}"
    return None if isinstance(getattr(dg.AssetsDefinition, "check_keys", None), property) else "check_keys has changed"


def replace_node_dependencies() -> None:
    """Replace Dagster's function in this process. Without effect when the patch is not active."""
    if not patches.is_active(patches.NODE_DEPENDENCIES):
        return
    module = _module()
    build = getattr(module, _FUNCTION)
    if build not in _replacements:
        _replacements.append(_with_one_check(build))
        setattr(module, _FUNCTION, _replacements[-1])


def _module() -> ModuleType | None:
    for name in _MODULES:
        with suppress(ModuleNotFoundError):
            return import_module(name)
    return None


def _with_one_check(build: Build) -> Build:
    waits_for_checks: Any = getattr(import_module(_DEPENDENCIES), _WAITS_FOR_CHECKS)

    def unblocked(inputs: Mapping[str, Any], definition: dg.AssetsDefinition) -> dict[str, Any]:
        """Remove the checks that a step would wait for on the inputs that it checks itself."""
        checked = {key.asset_key for key in definition.check_keys}
        keys = definition.node_keys_by_input_name
        alone = {
            name: found.other_dependency if isinstance(found, waits_for_checks) and keys[name] in checked else found
            for name, found in inputs.items()
        }
        return {name: found for name, found in alone.items() if found is not None}

    @wraps(build)
    def build_node_deps(asset_graph: AssetGraph) -> tuple[Any, Mapping[Any, dg.AssetsDefinition]]:
        shown = {
            id(view): (view, definition) for definition in asset_graph.assets_defs for view in (_shown(definition),)
        }
        try:
            deps, views = build(_Graph(asset_graph, [view for view, _ in shown.values()]))
            by_handle = {handle: shown[id(view)][1] for handle, view in views.items()}
            by_name = {handle.name: definition for handle, definition in by_handle.items()}
            found = {step: unblocked(inputs, by_name[step.alias or step.name]) for step, inputs in deps.items()}
        except (AttributeError, KeyError, TypeError) as error:  # a Dagster that uses the graph in another way
            patches.give_up(patches.NODE_DEPENDENCIES, f"{type(error).__name__}: {error}")
            return build(asset_graph)
        return found, by_handle

    return build_node_deps


class _Graph:
    """An asset graph with other definitions."""

    def __init__(self, graph: AssetGraph, assets_defs: Sequence[dg.AssetsDefinition]) -> None:
        self._graph = graph
        self.assets_defs = assets_defs

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any attribute of the graph
        return getattr(self._graph, name)


class _OneCheck(dg.AssetsDefinition):
    """A copy of a definition with one of its checks, by which Dagster recognizes steps that only check assets."""

    @cached_property
    def check_keys(self) -> AbstractSet[dg.AssetCheckKey]:
        return frozenset(islice(super().check_keys, 1))


def _shown(definition: dg.AssetsDefinition) -> dg.AssetsDefinition:
    copied = _OneCheck.__new__(_OneCheck)
    vars(copied).update(vars(definition))
    return copied
