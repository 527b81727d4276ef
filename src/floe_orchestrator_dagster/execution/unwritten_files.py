"""Files that dbt writes before its first node and nobody reads in a step's target directory: they are left out.

``manifest.json`` is written once, at the end, as dbt does anyway: the first one takes half a second with 400 models and
two with 2,000. ``graph.gpickle`` and ``graph_summary.json``, for which each node is described three times, take half as
long; the summary stays empty.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt.contracts.graph.manifest import Manifest

_GRAPH_WRITERS = {"write_graph": ("self", "outfile", "manifest"), "get_graph_summary": ("self", "manifest")}


def leave_out_files(*, but_manifest: bool = False) -> str | None:
    """Let the dbt of this process write less before it runs its first node.

    Args:
        but_manifest: Whether ``manifest.json`` is needed at once.

    Returns:
        Why nothing was done, of a dbt that writes these files otherwise than is known; None when it was.
    """
    from dbt import compilation
    from dbt.parser import manifest
    from dbt.task import runnable

    written_first, written_last = (getattr(module, "write_manifest", None) for module in (manifest, runnable))
    linker = getattr(compilation, "Linker", None)
    if written_first is None or written_first is not written_last:
        return "manifest.json is written elsewhere"
    if any(_parameters(getattr(linker, name, None)) != known for name, known in _GRAPH_WRITERS.items()):
        return "the graph is written elsewhere"
    if not but_manifest:
        manifest.write_manifest = _write_nothing
    compilation.Linker.write_graph = _write_nothing  # type: ignore[method-assign]
    compilation.Linker.get_graph_summary = _no_summary  # type: ignore[method-assign,assignment]
    return None


def _parameters(function: Callable[..., Any] | None) -> tuple[str, ...]:
    return tuple(signature(function).parameters) if callable(function) else ()


def _write_nothing(*_arguments: object, **_options: object) -> None:
    """Stand in for what writes a file."""


def _no_summary(_linker: object, _manifest: Manifest) -> dict[int, dict[str, Any]]:
    return {}
