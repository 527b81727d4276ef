"""Differences between a pull request and production: changed nodes, what is downstream of them, and removed nodes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.references import called_functions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.state.changes import StateChanges

_UNIT_TEST = "unit_test."


@dataclass(frozen=True)
class Removal:
    """A model, seed or snapshot that production has and the pull request does not.

    Attributes:
        unique_id: dbt's unique id.
        readers: Unique ids of the nodes that read it in production and still exist.
    """

    unique_id: str
    readers: Sequence[str] = ()


@dataclass(frozen=True)
class Changes:
    """The nodes to build for a pull request, each with the reason.

    Attributes:
        changed: Models, seeds and snapshots that differ from production's, by unique id.
        affected: Nodes downstream of these, by unique id.
        tests: Tests of both, and tests that differ themselves, by unique id.
        functions: Unique ids of the functions that the nodes call.
        removed: Nodes that are only in production.
    """

    changed: Mapping[str, str]
    affected: Mapping[str, str]
    tests: Mapping[str, str]
    functions: AbstractSet[str] = frozenset()
    removed: Sequence[Removal] = ()

    @property
    def built(self) -> Mapping[str, str]:
        """The changed and affected nodes."""
        return {**self.changed, **self.affected}

    @property
    def selected(self) -> frozenset[str]:
        """Unique ids of all nodes that dbt runs."""
        return frozenset([*self.changed, *self.affected, *self.tests, *self.functions])


@dataclass(frozen=True)
class Project:
    """The nodes of a product that can be built.

    Attributes:
        content: The content of the trimmed manifest.
        nodes: Unique ids of its models, seeds and snapshots.
        tests: Unique ids of its data tests and unit tests.
        builders: Unique id of the node that builds the table of a source, by that of the source.
    """

    content: Mapping[str, Any]
    nodes: AbstractSet[str]
    tests: AbstractSet[str]
    builders: Mapping[str, str] = field(default_factory=dict)


def find_changes(project: Project, since: StateChanges, production: Mapping[str, Any]) -> Changes:
    """Decide what to build for a pull request.

    Args:
        project: The pull request's nodes.
        since: What differs from production.
        production: The content of production's trimmed manifest.
    """
    content = project.content
    every = project.nodes | _ephemeral(content)
    changed = {node: reason for node, reason in since.changed.items() if node in project.nodes}
    tests = {test: reason for test, reason in since.tests.items() if test in project.tests}
    for test, reason in tests.items():
        if test.startswith(_UNIT_TEST):  # dbt runs a unit test only together with its model
            tested = (node for node in _parents(content, test) if node in every)
            changed.update({node: f"its unit test {_name(test)} {reason}" for node in tested if node not in changed})
    affected = _downstream(project, every, changed)
    built = {*changed, *affected}
    for test in sorted(project.tests - tests.keys()):
        cause = next((node for node in _parents(content, test) if node in built), None)
        if cause is not None:
            tests[test] = f"reads {_name(cause)}"
    functions = called_functions(content, [*built, *tests])
    removed = [Removal(node, [*_readers(node, content, production)]) for node in since.removed]
    return Changes(changed, affected, tests, frozenset[str]().union(*functions.values()), removed)


def _readers(unique_id: str, content: Mapping[str, Any], production: Mapping[str, Any]) -> Iterator[str]:
    """List the nodes that read a node in production and still exist."""
    for child in production["child_map"].get(unique_id) or ():
        if child in content["nodes"] and not child.startswith("test."):
            yield child


def _downstream(project: Project, every: AbstractSet[str], changed: Iterable[str]) -> dict[str, str]:
    """Find the nodes downstream of changed ones, each with the nearest node that it reads."""
    children = _children(project)
    found: dict[str, str] = {}
    waiting, known = [*changed], {*changed}
    while waiting:
        node = waiting.pop(0)
        for child in sorted(children[node] & every):
            if child not in known:
                known.add(child)
                found[child] = f"reads {_name(node)}"
                waiting.append(child)
    return found


def _children(project: Project) -> defaultdict[str, set[str]]:
    """Return the readers of each node, also through functions and sources whose table a node builds."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    content, functions = project.content, project.content.get("functions", {})
    for child in project.content["parent_map"]:
        waiting, seen = [*_parents(content, child)], set[str]()
        while waiting:
            parent = project.builders.get(read := waiting.pop(), read)
            if parent in seen:
                continue
            seen.add(parent)
            found[parent].add(child)
            if parent in functions:
                waiting += _parents(content, parent)
    return found


def _ephemeral(content: Mapping[str, Any]) -> frozenset[str]:
    nodes = content["nodes"].items()
    return frozenset(one for one, node in nodes if (node.get("config") or {}).get("materialized") == "ephemeral")


def _parents(content: Mapping[str, Any], unique_id: str) -> Sequence[str]:
    return content["parent_map"].get(unique_id) or ()


def _name(unique_id: str) -> str:
    return ".".join(unique_id.split(".")[2:])
