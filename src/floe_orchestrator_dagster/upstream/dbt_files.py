"""Omission of files that dbt writes before its first node and that are unused in a step's target directory.

``manifest.json`` is written once, at the end, as dbt does anyway: the first one takes half a second with 400 models and
two with 2,000. ``graph.gpickle`` and ``graph_summary.json``, for which each node is described three times, take half as
long; the summary stays empty.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt.compilation import Linker
    from dbt.contracts.graph.manifest import Manifest

_MANIFEST_WRITER = ("manifest", "target_path", "which")
_GRAPH_WRITERS = {"write_graph": ("self", "outfile", "manifest"), "get_graph_summary": ("self", "manifest")}


def leave_out_files(*, needs_manifest: bool = False) -> str | None:
    """Let the dbt of this process write less before it runs its first node.

    Args:
        needs_manifest: Whether ``manifest.json`` is read before the end, and has to be written first too.

    Returns:
        Why nothing was done, of a dbt that writes these files differently; None where it was done or is switched off.
    """
    state = patches.attempt(patches.DBT_FILES)
    if state.status != patches.ACTIVE:
        return state.reason or None
    from dbt import compilation
    from dbt.parser import manifest

    if not needs_manifest:
        manifest.write_manifest = _complete_manifest
    compilation.Linker.write_graph = _write_no_graph  # type: ignore[method-assign]
    compilation.Linker.get_graph_summary = _no_summary  # type: ignore[method-assign]
    return None


def find_problem() -> str | None:
    """Return why dbt's writers cannot be replaced; None when they can."""
    from dbt import compilation
    from dbt.parser import manifest
    from dbt.task import runnable

    written_first, written_last = (getattr(module, "write_manifest", None) for module in (manifest, runnable))
    linker = getattr(compilation, "Linker", None)
    if written_first is not written_last or _parameters(written_first) != _MANIFEST_WRITER:
        return "manifest.json is written elsewhere"
    if any(_parameters(getattr(linker, name, None)) != known for name, known in _GRAPH_WRITERS.items()):
        return "the graph is written elsewhere"
    return None


def _parameters(function: Callable[..., Any] | None) -> tuple[str, ...]:
    return tuple(signature(function).parameters) if callable(function) else ()


def _complete_manifest(manifest: Manifest, target_path: str, which: str | None = None) -> None:  # noqa: ARG001
    """Do what else dbt does when it writes a manifest: a partial parse leaves it to that."""
    manifest.build_parent_and_child_maps()  # type: ignore[no-untyped-call]
    manifest.build_group_map()  # type: ignore[no-untyped-call]


def _write_no_graph(self: Linker, outfile: str, manifest: Manifest) -> None:
    """Write nothing."""


def _no_summary(self: Linker, manifest: Manifest) -> dict[int, dict[str, Any]]:  # noqa: ARG001
    return {}
