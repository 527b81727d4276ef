"""Omission of unused files that dbt writes before its first node.

dbt writes ``manifest.json`` before the first node and again at its end. Only the second one is written here.
``graph.gpickle`` is not written, and ``graph_summary.json`` is empty.
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
    """Make the dbt of this process omit files before its first node.

    Args:
        needs_manifest: Whether ``manifest.json`` is read while dbt runs, so that both are written.

    Returns:
        The reason if this version of dbt writes the files differently; None if the patch is active or switched off.
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
    """Return the reason why dbt's writers cannot be replaced; None when they can."""
    from dbt import compilation
    from dbt.parser import manifest
    from dbt.task import runnable

    written_first, written_last = (getattr(module, "write_manifest", None) for module in (manifest, runnable))
    linker = getattr(compilation, "Linker", None)
    if written_first is not written_last or _parameters(written_first) != _MANIFEST_WRITER:
        return "dbt writes manifest.json with another function"
    if any(_parameters(getattr(linker, name, None)) != known for name, known in _GRAPH_WRITERS.items()):
        return "dbt writes the graph with other functions"
    return None


def _parameters(function: Callable[..., Any] | None) -> tuple[str, ...]:
    return tuple(signature(function).parameters) if callable(function) else ()


def _complete_manifest(manifest: Manifest, target_path: str, which: str | None = None) -> None:  # noqa: ARG001
    """Complete the manifest without writing it. After a partial parse, dbt's writer does this."""
    manifest.build_parent_and_child_maps()
    manifest.build_group_map()


def _write_no_graph(self: Linker, outfile: str, manifest: Manifest) -> None:
    """Replace the writer of ``graph.gpickle``; writes no file."""


def _no_summary(self: Linker, manifest: Manifest) -> dict[int, dict[str, Any]]:  # noqa: ARG001
    return {}
