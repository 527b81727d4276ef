"""Nodes of a manifest that match a dbt selection, found without dbt.

Syntax: https://docs.getdbt.com/reference/node-selection/syntax. The methods and operators match the same nodes as
dbt-core's own; tests compare both on many selections. ``selector:`` names a YAML selector, also where dbt has no such
method. The methods that compare with an earlier run (``state``, ``result``, ``source_status``) are not supported.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.selection.criteria import Criterion, UnreadableSelectionError, read_criteria
from floe_orchestrator_dagster.product.selection.members import COLLECTIONS, Members
from floe_orchestrator_dagster.product.selection.methods import matching
from floe_orchestrator_dagster.product.selection.yaml_selectors import YamlSelector
from floe_orchestrator_dagster.wording import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["NodeGraph"]


@dataclass(frozen=True)
class NodeGraph:
    """The graph of a project's enabled nodes.

    Attributes:
        content: The fields of the project's manifest that selections read.
        project: Directory of the project. ``path:`` selects files below it.
    """

    content: Mapping[str, Any]
    project: Path

    def matches(self, selection: str) -> list[tuple[str, set[str]]]:
        """Return the nodes that each part of a union matches.

        These can be tests and sources. Unlike in dbt, tests of matched models are not added.

        Raises:
            UnreadableSelectionError: The selection is not valid.
        """
        return [
            (part, set.intersection(*(self._selected(criterion) for criterion in criteria)))
            for part, criteria in read_criteria(selection)
        ]

    def of_selector(self, name: str) -> set[str]:
        """Return the nodes of a YAML selector. Its name is not a pattern, and can have any characters.

        Raises:
            UnreadableSelectionError: The project does not have this selector, or its definition is not valid.
        """
        if name not in self._selectors:
            raise self._unknown_selector(name)
        return self._defined(name, ())

    def _selected(self, criterion: Criterion, inside: tuple[str, ...] = ()) -> set[str]:
        is_selector = criterion.method == "selector"
        found = self._of_selectors(criterion, inside) if is_selector else set(matching(criterion, self._members))
        if criterion.childrens_parents:  # the operator @
            with_children = found | self._related(found, self._children, None)
            return with_children | self._related(with_children, self._parents, None)
        parents = self._related(found, self._parents, criterion.parents_depth) if criterion.parents else set()
        children = self._related(found, self._children, criterion.children_depth) if criterion.children else set()
        return found | parents | children

    def _of_selectors(self, criterion: Criterion, inside: tuple[str, ...]) -> set[str]:
        """Return the nodes of the YAML selectors that a criterion names, which can be a pattern.

        Args:
            criterion: The criterion.
            inside: Names of the selectors whose definitions lead to this criterion.
        """
        names = [name for name in self._selectors if fnmatch(name, criterion.value)]
        if not names:
            raise self._unknown_selector(criterion.value)
        return set[str]().union(*(self._defined(name, inside) for name in names))

    def _defined(self, name: str, inside: tuple[str, ...]) -> set[str]:
        if name in inside:
            raise UnreadableSelectionError(f"the selector {name!r} is defined by itself, through {inside[-1]!r}")
        is_of_core = not str(self.content["metadata"].get("dbt_version")).startswith("2.")
        matched = partial(self._selected, inside=(*inside, name))
        return YamlSelector(self._selectors[name]["definition"], matched, is_of_core).unique_ids()

    def _unknown_selector(self, name: str) -> UnreadableSelectionError:
        known = self._selectors
        listed = f"Its selectors: {', '.join(sorted(known))}" if known else "It has none"
        hint = did_you_mean(closest(name, known))
        return UnreadableSelectionError(f"selectors.yml has no selector {name!r}. {hint}{listed}")

    @property
    def _selectors(self) -> Mapping[str, Any]:
        return self.content.get("selectors") or {}

    def _related(self, start: Iterable[str], neighbours: Mapping[str, Iterable[str]], depth: int | None) -> set[str]:
        """Return the nodes that are at most ``depth`` steps from these nodes; None for any number of steps."""
        related: set[str] = set()
        layer = set(start)
        while layer and (depth is None or depth > 0):
            layer = {near for node in layer for near in neighbours.get(node, ())} - related
            related |= layer
            depth = None if depth is None else depth - 1
        return related

    @cached_property
    def _members(self) -> Members:
        return Members(
            {name: dict(_enabled(self.content.get(name) or {})) for name in COLLECTIONS},
            self.content["metadata"].get("project_name"),
            self.project,
        )

    @cached_property
    def _children(self) -> Mapping[str, list[str]]:
        known = self._members.unique_ids
        neighbours = self.content["child_map"].items()
        return {node: [near for near in nears if near in known] for node, nears in neighbours if node in known}

    @cached_property
    def _parents(self) -> Mapping[str, list[str]]:
        parents: dict[str, list[str]] = {}
        for node, children in self._children.items():
            for child in children:
                parents.setdefault(child, []).append(node)
        return parents


def _enabled(nodes: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return ((name, node) for name, node in nodes.items() if (node.get("config") or {}).get("enabled", True))
