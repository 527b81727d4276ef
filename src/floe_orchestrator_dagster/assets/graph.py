"""Graph of a project: what its nodes read, their order and their cycles, the same in every process."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from floe_orchestrator_dagster.product.manifest import Manifest

Parents: TypeAlias = "Mapping[str, frozenset[str]]"
"""For each model, seed and snapshot, by unique id: the unique ids of those that it reads."""


def relations_read(manifest: Manifest, nodes: Iterable[str], tables: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Find the models, seeds, snapshots and sources that each node reads.

    Args:
        manifest: The dbt manifest.
        nodes: Unique ids of the nodes.
        tables: The model that builds the table of a source, by the source's unique id. It counts as read too.
    """
    reads = {unique_id: manifest.relations_read_by(unique_id) for unique_id in nodes}
    return {unique_id: read | {tables[name] for name in read & tables.keys()} for unique_id, read in reads.items()}


def unknown_to_dbt(
    manifest: Manifest, parents: Mapping[str, frozenset[str]], tables: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Find the parents that dbt does not build first: builders of a source's table, which dbt does not connect with it.

    Args:
        manifest: The dbt manifest.
        parents: What each node reads, as :func:`relations_read` finds it with ``tables``.
        tables: The model that builds the table of a source, by the source's unique id.
    """
    found = {}
    for unique_id in parents if tables else ():
        own = manifest.relations_read_by(unique_id)
        builders = {tables[name] for name in own & tables.keys()}
        if builders:
            unknown = builders - _ancestors(manifest, unique_id)
            if unknown:
                found[unique_id] = frozenset(unknown)
    return found


def _ancestors(manifest: Manifest, unique_id: str) -> set[str]:
    """Return the nodes that dbt builds before a node."""
    found: set[str] = set()
    waiting = [unique_id]
    while waiting:
        new = manifest.relations_read_by(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def dependency_order(parents: Mapping[str, Collection[str]]) -> list[str]:
    """Return the nodes of a graph, each after its parents.

    The result depends only on the order of ``parents`` and on names, because all processes of a run must divide the
    graph into the same steps. Sets are sorted, because their order differs between processes.
    """
    return list(TopologicalSorter({name: sorted(read) for name, read in parents.items()}).static_order())


def first_of_cycles(parents: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the first node of each node's cycle, in the order of ``parents``; without a cycle, the node itself."""
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, read in parents.items():
        for parent in read:
            children[parent].append(name)
    place = {name: row for row, name in enumerate(parents)}
    first: dict[str, str] = {}
    # Kosaraju's algorithm: nodes that reach the last finished node, and that it reaches, are in a cycle with it.
    for start in reversed(_finished(parents)):
        if start in first:
            continue
        members, waiting = {start}, [start]
        while waiting:
            new = [child for child in children[waiting.pop()] if child not in first and child not in members]
            members.update(new)
            waiting += new
        first |= dict.fromkeys(members, min(members, key=place.__getitem__))
    return first


def _finished(parents: Mapping[str, Collection[str]]) -> list[str]:
    """Return the nodes in the order in which a depth-first search leaves them."""
    found: list[str] = []
    seen: set[str] = set()
    waiting = [(name, False) for name in reversed([*parents])]
    while waiting:
        name, is_left = waiting.pop()
        if is_left:
            found.append(name)
        elif name not in seen:
            seen.add(name)
            waiting.append((name, True))
            waiting += ((parent, False) for parent in parents[name] if parent not in seen)
    return found
