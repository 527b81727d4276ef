"""Division of a dbt project's graph into parts, which separate steps build (``steps`` in the configuration).

Parts never depend on each other in a cycle, so that each of them can be built as a whole. Parts that do not depend on
each other can be built at the same time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from floe_orchestrator_dagster.assets.graph import Parents, dependency_order, relations_read
from floe_orchestrator_dagster.assets.labels import join_least, label_levels, with_all_labels
from floe_orchestrator_dagster.assets.translator import folders
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.models import CORRECT_IT
from floe_orchestrator_dagster.errors import ConfigError, Problem
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.config.models import PodResources
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.manifest import Manifest

    # By the unique id of a node: the index in `steps` of the entry that selects it. Other nodes are left out.
    Rows: TypeAlias = Mapping[str, int]
    # A node of the graph of parts: the index of an entry in `steps`, or the unique id of a node that no entry selects.
    Place: TypeAlias = int | str

# Name of the parts with the nodes that no entry of `steps` selects.
_REST = "rest"
_UNGROUPED = "ungrouped"


@dataclass(frozen=True)
class Part:
    """Models, seeds and snapshots that are built together.

    Attributes:
        name: Name of the part, for the names of its steps.
        nodes: Unique ids of its nodes.
        resources: CPU and memory of the pods of its steps; None for those of runs.
    """

    name: str
    nodes: frozenset[str]
    resources: PodResources | None = None


def built_parents(manifest: Manifest, tables: Mapping[str, str]) -> Parents:
    """Find which models, seeds and snapshots of the project read which others.

    Args:
        manifest: The dbt manifest.
        tables: The model that builds the table of a source, by the source's unique id.
    """
    own = {node["unique_id"]: None for node in manifest.asset_nodes}
    return {unique_id: read & own.keys() for unique_id, read in relations_read(manifest, own, tables).items()}


def product_parts(product: Product, selection: NodeSelection, parents: Parents) -> tuple[Part, ...]:
    """Divide the graph as configured. Each part depends only on earlier ones.

    Args:
        product: The product.
        selection: Resolves dbt selections.
        parents: The graph.

    Returns:
        The parts; each node is in one of them. Empty if the configuration has no ``steps``.

    Raises:
        ConfigError: A selection is not valid, a node is selected twice, parts depend on each other in a cycle, or the
            product has no dbt project. The message lists all problems.
    """
    rules = product.config.steps
    if not rules:
        return ()
    if product.dbt is None:
        what = f"product {product.name!r} has no dbt project here that can be divided into parts"
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory with dbt_project.yml."
        raise ConfigError(product.origin, [Problem(config_path("steps"), what, fix)])
    nodes = {node["unique_id"]: node for node in product.dbt.manifest.asset_nodes}
    ordered = {unique_id: parents[unique_id] for unique_id in nodes}
    rule = rules[0]
    if rule.by is None:
        return _selected_parts(product, selection, ordered)
    if rule.by == "layers":
        found = layered(ordered, rule.max)
    else:
        label = _group if rule.by == "group" else partial(_folder, _project_name(product.dbt.manifest))
        written = {unique_id: label(node) for unique_id, node in nodes.items()}
        found = labelled(with_all_labels(written, ordered, _UNGROUPED), ordered, rule.max)
    return tuple(Part(name, members, rule.resources) for name, members in found)


def labelled(labels: Mapping[str, str], parents: Parents, limit: int) -> list[tuple[str, frozenset[str]]]:
    """Divide a graph by labels. Labels that depend on each other in a cycle are one part.

    Args:
        labels: Label of each node.
        parents: The graph.
        limit: Maximum number of parts. While there are more, two are joined: first those that are built one after the
            other anyway, then small ones that are built at the same time.

    Returns:
        Name and nodes of each part, in the order of their dependencies.
    """
    levels = label_levels(labels, parents)
    while sum(map(len, levels)) > limit:
        join_least(levels)
    return [(part.name, part.nodes) for level in levels for part in level]


def layered(parents: Parents, limit: int) -> list[tuple[str, frozenset[str]]]:
    """Divide a graph into layers of similar size, and each layer into parts that do not read each other.

    Args:
        parents: The graph.
        limit: Maximum number of parts; up to half of it are layers.

    Returns:
        Name and nodes of each part, in the order of their dependencies.
    """
    layers = _layers(parents, max(1, limit // 2))
    free = limit - len(layers)
    total = len(parents)
    found: list[tuple[str, frozenset[str]]] = []
    for number, layer in enumerate(layers, 1):
        # Each layer has one part, and a share of the others by its size.
        bins = _balanced(_connected(layer, parents), 1 + free * len(layer) // total)
        names = [f"layer_{number}_{place}" if len(bins) > 1 else f"layer_{number}" for place in range(1, len(bins) + 1)]
        found.extend(zip(names, bins, strict=True))
    return found


def _selected_parts(product: Product, selection: NodeSelection, parents: Parents) -> tuple[Part, ...]:
    """Return the selected parts, and the rest of the graph in as few parts as their order allows."""
    rules = product.config.steps
    rows = selection.rows([(rule.select or "", rule.exclude) for rule in rules], "steps")
    _refuse_cycle(product, rows, parents)
    turns = _turns_of_parts(rows, parents)
    members: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for unique_id, turn in turns.items():
        members[turn, rows.get(unique_id, -1)].add(unique_id)
    parts: list[Part] = []
    for (_, row), nodes in sorted(members.items(), key=lambda found: found[0]):
        rule = rules[row] if row >= 0 else None
        name = (rule.name or f"part_{row + 1}") if rule else _REST
        parts.append(Part(name, frozenset(nodes), rule.resources if rule else None))
    return tuple(parts)


def _refuse_cycle(product: Product, rows: Rows, parents: Parents) -> None:
    """Reject parts that depend on each other, directly or by models that no part selects."""
    try:
        TopologicalSorter(_graph_of_parts(rows, parents)).prepare()
    except CycleError as error:
        cycle: list[Place] = error.args[1][:-1]
        # The message starts with the first of the parts in the configuration.
        row = min(place for place in cycle if isinstance(place, int))
        first = cycle.index(row)
        ordered = [*cycle[first:], *cycle[:first], row]
        edges = [_edge(upstream, downstream, rows, parents) for upstream, downstream in pairwise(ordered)]
        what = f"the parts would depend on each other in a cycle: {', '.join(edges)}"
        fix = f"Select the models of the cycle in one part, or exclude some of them (`exclude`). {CORRECT_IT}"
        raise ConfigError(product.origin, [Problem(config_path("steps", row), what, fix)]) from None


def _graph_of_parts(rows: Rows, parents: Parents) -> Mapping[Place, Sequence[Place]]:
    """Return the graph with each part as one node."""
    graph: defaultdict[Place, dict[Place, None]] = defaultdict(dict)
    for unique_id, read in parents.items():
        own = rows.get(unique_id, unique_id)
        graph[own].update({rows.get(parent, parent): None for parent in sorted(read)})
        graph[own].pop(own, None)
    return {place: list(read) for place, read in graph.items()}


def _edge(upstream: Place, downstream: Place, rows: Rows, parents: Parents) -> str:
    """Describe one of the dependencies between two places of the graph of parts."""
    parent, child = next(
        (parent, child)
        for child, read in parents.items()
        if rows.get(child, child) == downstream
        for parent in sorted(read)
        if rows.get(parent, parent) == upstream
    )
    return " -> ".join(
        f"{unique_id.split('.', 2)[-1]} ({f'steps[{rows[unique_id]}]' if unique_id in rows else 'no part'})"
        for unique_id in (parent, child)
    )


def _turns_of_parts(rows: Rows, parents: Parents) -> dict[str, int]:
    """Assign each node to a turn. In a turn, the nodes without a part are built first, then the parts.

    All nodes of a part have the same turn, so that the part is built once.
    """
    graph = _graph_of_parts(rows, parents)
    turns: dict[Place, int] = {}
    for place in TopologicalSorter(graph).static_order():
        # The readers of a part have a later turn than the part.
        turns[place] = max((turns[parent] + isinstance(parent, int) for parent in graph[place]), default=0)
    return {unique_id: turns[rows.get(unique_id, unique_id)] for unique_id in parents}


def _layers(parents: Parents, limit: int) -> list[list[str]]:
    """Divide a graph into layers of similar size: nodes with a similar distance from the first ones."""
    levels: dict[str, int] = {}
    for unique_id in dependency_order(parents):
        levels[unique_id] = max((levels[parent] + 1 for parent in parents[unique_id]), default=0)
    by_level: defaultdict[int, list[str]] = defaultdict(list)
    for unique_id in parents:
        by_level[levels[unique_id]].append(unique_id)
    layers: defaultdict[int, list[str]] = defaultdict(list)
    before = 0
    for level in sorted(by_level):
        layers[before * limit // len(parents)] += by_level[level]
        before += len(by_level[level])
    return list(layers.values())


def _connected(nodes: Sequence[str], parents: Parents) -> list[list[str]]:
    """Group nodes that read each other, directly or through other nodes of the group."""
    beside: dict[str, set[str]] = {unique_id: set() for unique_id in nodes}
    for unique_id in nodes:
        for parent in parents[unique_id] & beside.keys():
            beside[unique_id].add(parent)
            beside[parent].add(unique_id)
    groups: list[list[str]] = []
    seen: set[str] = set()
    for start in nodes:
        if start in seen:
            continue
        seen.add(start)
        group, waiting = [], [start]
        while waiting:
            unique_id = waiting.pop()
            group.append(unique_id)
            found = beside[unique_id] - seen
            seen |= found
            waiting += sorted(found)
        groups.append(group)
    return groups


def _balanced(groups: Iterable[Sequence[str]], limit: int) -> list[frozenset[str]]:
    """Distribute groups to at most ``limit`` sets of similar size: from the largest on, each to the smallest set."""
    bins: list[list[str]] = [[] for _ in range(limit)]
    for group in sorted(groups, key=len, reverse=True):
        min(bins, key=len).extend(group)
    return [frozenset(members) for members in bins if members]


def _group(node: Mapping[str, Any]) -> str | None:
    return node["config"].get("group") or node.get("group") or None


def _folder(project: str | None, node: Mapping[str, Any]) -> str:
    """Return the folder of a node below the model path, such as ``marts``; ``models`` for a model in no folder.

    The folder of a package's node starts with the name of the package.
    """
    package = [] if node["package_name"] == project else [str(node["package_name"])]
    return "/".join([*package, *folders(node)]) or f"{node['resource_type']}s"


def _project_name(manifest: Manifest) -> str | None:
    name: str | None = (manifest.content.get("metadata") or {}).get("project_name")
    return name
