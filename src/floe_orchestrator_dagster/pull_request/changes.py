"""Differences between a pull request and production: changed nodes, what is downstream of them, and removed nodes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.references import called_functions
from floe_orchestrator_dagster.product.trimming import TEST_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

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


def find_changes(project: Project, production: Mapping[str, Any], reason: Callable[[str], str | None]) -> Changes:
    """Compare a pull request with production.

    Args:
        project: The pull request's nodes.
        production: The content of production's trimmed manifest.
        reason: Returns why a node with this unique id differs from production's; None if it does not.
    """
    every = project.nodes | _ephemeral(project.content)  # a changed ephemeral model changes those that read it
    changed = {node: why for node in sorted(project.nodes) if (why := reason(node)) is not None}
    tests = _changed_tests(project, production)
    for test, why in tests.items():
        if test.startswith(_UNIT_TEST):  # dbt runs a unit test only together with its model
            tested = _parents(project.content, test)
            changed.update({node: f"{_name(test)} {why}" for node in tested if node in every and node not in changed})
    affected = _downstream(project, every, changed)
    built = {*changed, *affected}
    for test in sorted(project.tests - tests.keys()):
        cause = next((node for node in _parents(project.content, test) if node in built), None)
        if cause is not None:
            tests[test] = f"tests {_name(cause)}"
    functions = called_functions(project.content, [*built, *tests])
    return Changes(
        changed,
        affected,
        tests,
        frozenset[str]().union(*functions.values()),
        _removed(project.content, production),
    )


def _changed_tests(project: Project, production: Mapping[str, Any]) -> dict[str, str]:
    before = {**production["nodes"], **production["unit_tests"]}
    now = {**project.content["nodes"], **project.content["unit_tests"]}
    found = {}
    for test in sorted(project.tests & now.keys()):
        if test not in before:
            found[test] = "is new"
        elif now[test].get(TEST_VERSION) is None or now[test].get(TEST_VERSION) != before[test].get(TEST_VERSION):
            found[test] = "has changed"
    return found


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


def _removed(content: Mapping[str, Any], production: Mapping[str, Any]) -> list[Removal]:
    left = {node for node in production["nodes"] if not node.startswith("test.")} - content["nodes"].keys()
    kinds = ("model.", "seed.", "snapshot.")
    return [
        Removal(node, [child for child in production["child_map"].get(node, ()) if _is_node(child, content["nodes"])])
        for node in sorted(left)
        if node.startswith(kinds)
    ]


def _is_node(unique_id: str, nodes: Collection[str]) -> bool:
    return unique_id in nodes and not unique_id.startswith("test.")


def _ephemeral(content: Mapping[str, Any]) -> frozenset[str]:
    nodes = content["nodes"].items()
    return frozenset(one for one, node in nodes if (node.get("config") or {}).get("materialized") == "ephemeral")


def _parents(content: Mapping[str, Any], unique_id: str) -> Sequence[str]:
    return content["parent_map"].get(unique_id) or ()


def _name(unique_id: str) -> str:
    return ".".join(unique_id.split(".")[2:])
