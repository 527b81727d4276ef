"""Groups of nodes with the same label, in levels. A group depends only on groups of earlier levels.

The labels are the parts of a product: dbt groups, folders or selections.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.assets.graph import dependency_order, first_of_cycles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.assets.graph import Parents


@dataclass(frozen=True)
class Labelled:
    """Nodes with one of these labels."""

    labels: tuple[str, ...]
    nodes: frozenset[str]

    @property
    def name(self) -> str:
        """The first label, with the number of the others."""
        first, *others = self.labels
        return f"{first}_and_{len(others)}_more" if others else first

    def with_other(self, other: Labelled) -> Labelled:
        """Return the nodes of both."""
        return Labelled((*self.labels, *other.labels), self.nodes | other.nodes)


def with_all_labels(labels: Mapping[str, str | None], parents: Parents, other: str) -> dict[str, str]:
    """Give labels to the nodes without a label, by their position in the graph, with as few labels as possible.

    A node between two nodes of one label gets this label. The others are built as early as possible: before all labels,
    or after those that they read.

    Args:
        labels: Label of each node; None without one.
        parents: The graph.
        other: The new label; if there are several, later ones have a number, such as ``other_2``.
    """
    own = {unique_id: label or unique_id for unique_id, label in labels.items()}
    named = {label for label in labels.values() if label}
    first = first_of_cycles(_between(own, parents))
    cycles: defaultdict[str, list[str]] = defaultdict(list)
    for place in dict.fromkeys(own.values()):  # in the order of the nodes, which is the same in every process
        cycles[first[place]].append(place)
    reads = _between({unique_id: first[place] for unique_id, place in own.items()}, parents)
    label_of = {start: next((place for place in members if place in named), None) for start, members in cycles.items()}
    turns: dict[str, int] = {}
    for start in dependency_order(reads):
        turns[start] = max((turns[read] + bool(label_of[read]) for read in reads[start]), default=0)
    used = sorted({turn for start, turn in turns.items() if not label_of[start]})
    numbered = (f"{other}_{number}" if number > 1 else other for number in count(1))
    names = dict(zip(used, (name for name in numbered if name not in named), strict=False))
    return {
        unique_id: labels[unique_id] or label_of[first[place]] or names[turns[first[place]]]
        for unique_id, place in own.items()
    }


def label_levels(labels: Mapping[str, str], parents: Parents) -> list[list[Labelled]]:
    """Group the nodes by label; labels that depend on each other in a cycle are one group.

    The level of a group is one more than the highest level of the groups that it reads. Groups of a level do not depend
    on each other.

    Args:
        labels: Label of each node.
        parents: The graph.
    """
    first = first_of_cycles(_between(labels, parents))
    members: defaultdict[str, list[str]] = defaultdict(list)
    for label, own in first.items():
        members[own].append(label)
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for unique_id, label in labels.items():
        nodes[first[label]].add(unique_id)
    place = {label: row for row, label in enumerate(dict.fromkeys(labels.values()))}
    reads = _between({unique_id: first[label] for unique_id, label in labels.items()}, parents)
    level_of: dict[str, int] = {}
    levels: list[list[Labelled]] = []
    for label in dependency_order(reads):
        level = level_of[label] = max((level_of[read] + 1 for read in reads[label]), default=0)
        if level == len(levels):
            levels.append([])
        group = sorted(members[label], key=place.__getitem__)
        levels[level].append(Labelled(tuple(group), frozenset(nodes[label])))
    return levels


def join_least(levels: list[list[Labelled]]) -> None:
    """Join two groups: two that are built one after the other anyway, or else two small ones of a level.

    Neither creates a cycle between groups. All other groups keep their level. If two levels are joined, the number of
    each later level decreases by one.
    """
    in_a_row = [row for row in range(len(levels) - 1) if len(levels[row]) == len(levels[row + 1]) == 1]
    if in_a_row:
        row = min(in_a_row, key=lambda row: len(levels[row][0].nodes) + len(levels[row + 1][0].nodes))
        [later] = levels.pop(row + 1)
        levels[row] = [levels[row][0].with_other(later)]
        return
    for level in levels:
        level.sort(key=lambda group: len(group.nodes))
    level = min(
        (level for level in levels if len(level) > 1), key=lambda level: len(level[0].nodes) + len(level[1].nodes)
    )
    level[:2] = [level[0].with_other(level[1])]


def _between(labels: Mapping[str, str], parents: Parents) -> dict[str, set[str]]:
    """Return the other labels that each label reads."""
    reads: dict[str, set[str]] = {label: set() for label in labels.values()}
    for unique_id, read in parents.items():
        own = labels[unique_id]
        reads[own].update(labels[parent] for parent in read if labels[parent] != own)
    return reads
