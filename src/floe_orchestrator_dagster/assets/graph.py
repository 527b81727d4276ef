"""Order of the nodes of a graph, the same in every process."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def dependency_order(parents: Mapping[str, Collection[str]]) -> list[str]:
    """Return the nodes of a graph, each after its parents.

    The result depends only on the order of ``parents`` and on names. The order of a set of names differs between
    processes, but the processes of a run must divide the graph in the same way.
    """
    return list(TopologicalSorter({name: sorted(read) for name, read in parents.items()}).static_order())
