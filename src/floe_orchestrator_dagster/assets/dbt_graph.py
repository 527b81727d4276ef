"""dbt's graph of a project, as dbt's own selection engine walks it; dbt is imported by the first selection."""

from __future__ import annotations

import re
from argparse import Namespace
from collections import defaultdict
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dbt.graph.graph import UniqueId
    from dbt.graph.selector import NodeSelector
    from dbt.graph.selector_spec import SelectionCriteria, SelectionUnion

    from floe_orchestrator_dagster.product import DbtProject

# Collections of a manifest that are nodes of dbt's graph. dbt 1.9 has no functions.
_COLLECTIONS = (
    "nodes",
    "sources",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
    "functions",
)
_WILDCARD = re.compile(r"[*?\[\]]")


class DbtGraph:
    """dbt's graph of a project; dbt is imported and the graph built by the first selection."""

    def __init__(self, dbt: DbtProject) -> None:
        self._dbt = dbt

    def matches(self, selection: str) -> list[tuple[str, set[str]]]:
        """Find what each part of a union matches, tests and sources too.

        Raises:
            DbtBaseException: What dbt says to a selection that it cannot read; others may come of what it calls.
        """
        from dbt_common.events.contextvars import task_contextvars

        found = []
        # `path:` is looked up in the file system, by default below the working directory.
        with task_contextvars(project_root=str(self._dbt.directory.path)):
            for part in _parsed(selection).components:
                matched, _ = self._selector.select_nodes(part)
                found.append((str(part.raw), {str(unique_id) for unique_id in matched}))
        return found

    @cached_property
    def _selector(self) -> NodeSelector:
        return _node_selector(self._dbt.manifest.content)


@contextmanager
def _selection_flags() -> Iterator[None]:
    """Give dbt's parser the one flag that it reads, and dbt its flags back."""
    from dbt import flags

    before = flags.GLOBAL_FLAGS
    # Tests are no assets: finding those of the selected models would be work for nothing.
    flags.GLOBAL_FLAGS = Namespace(INDIRECT_SELECTION="empty")
    try:
        yield
    finally:
        flags.GLOBAL_FLAGS = before


def _parsed(selection: str) -> SelectionUnion:
    from dbt.graph.cli import parse_union

    with _selection_flags():
        return parse_union([" ".join(selection.split())], expect_exists=False)


def _node_selector(content: Mapping[str, Any]) -> NodeSelector:
    from dbt.contracts.graph.manifest import Manifest
    from dbt.graph.graph import Graph
    from networkx import DiGraph  # type: ignore[import-untyped]  # dbt brings it, without types

    classes = _node_classes()
    members = {name: content.get(name) or {} for name in _COLLECTIONS}
    graph = DiGraph(content["child_map"])
    graph.add_nodes_from(unique_id for collection in members.values() for unique_id in collection)
    manifest = Manifest()
    for name, collection in members.items():
        if collection:
            nodes = {unique_id: _node(classes, fields) for unique_id, fields in collection.items()}
            setattr(manifest, name, nodes)
    manifest.metadata.project_name = content["metadata"].get("project_name")
    selector = _selector_class()(Graph(graph), manifest)
    # dbt looks at the enabled nodes through a filtered view, several times slower to walk than a graph.
    is_whole = len(selector.graph.nodes()) == len(graph)
    selector.graph = Graph(graph if is_whole else selector.graph.graph.copy())
    return selector


def _selector_class() -> type[NodeSelector]:
    """Derive from dbt's selector one that asks dbt only about nodes which can match."""
    from dbt.graph.selector import NodeSelector

    class Selector(NodeSelector):
        def select_included(
            self,
            included_nodes: set[UniqueId],  # noqa: ARG002  # always the view of the graph's nodes
            spec: SelectionCriteria,
        ) -> set[UniqueId]:
            members = self._members
            if spec.method == "fqn":
                members = members & self._names.candidates(str(spec.value))
            return super().select_included(members, spec)

        @cached_property
        def _members(self) -> set[UniqueId]:
            # dbt hands over a view of its graph, in which looking something up takes much longer.
            return set(self.graph.nodes())

        @cached_property
        def _names(self) -> _Names:
            return _Names(self.manifest)

    return Selector


class _Names:
    """The nodes by their names, to find those that dbt has to look at for a name: all that can match, some more."""

    def __init__(self, manifest: Any) -> None:  # noqa: ANN401  # dbt's, with our collections
        self._by_part: defaultdict[str, set[str]] = defaultdict(set)
        self._names: list[tuple[str, str, str, str]] = []
        self._versioned: set[str] = set()
        for collection in _COLLECTIONS:
            for unique_id, node in (getattr(manifest, collection, None) or {}).items():
                self._add(unique_id, node.fqn)
                if getattr(node, "version", None) is not None:  # other rules hold for them
                    self._versioned.add(unique_id)

    def _add(self, unique_id: str, fqn: Sequence[str]) -> None:
        for segment in fqn:
            for part in (segment, *segment.split(".")):
                self._by_part[part].add(unique_id)
        # dbt compares a name with the whole FQN, with and without the package, or with its end.
        self._names.append((unique_id, ".".join(fqn), ".".join(fqn[1:]), fqn[-1]))

    def candidates(self, name: str) -> set[str]:
        """Find the nodes that a name can match, one with wildcards too."""
        wildcard = _WILDCARD.search(name)
        if wildcard is None:
            return self._by_part[name] | self._by_part[name.partition(".")[0]] | self._versioned
        begin = name[: wildcard.start()]
        found = {
            unique_id
            for unique_id, full, inner, leaf in self._names
            if full.startswith(begin) or inner.startswith(begin) or leaf.startswith(begin)
        }
        return found | self._versioned


class _Config(dict[str, Any]):
    """A node's config, which dbt reads as attributes."""

    def __getattr__(self, name: str) -> object:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(name) from None
        return _Config(value) if isinstance(value, dict) else value


def _node_classes() -> dict[str, type]:
    """Name dbt's class of each resource type, for several methods (``access:``, ``version:``, ``test_type:``) ask."""
    from dbt.contracts.graph import nodes

    classes = {
        "model": nodes.ModelNode,
        "seed": nodes.SeedNode,
        "snapshot": nodes.SnapshotNode,
        "test": nodes.SingularTestNode,
        "analysis": nodes.AnalysisNode,
        "operation": nodes.HookNode,
        "source": nodes.SourceDefinition,
        "exposure": nodes.Exposure,
        "metric": nodes.Metric,
        "semantic_model": nodes.SemanticModel,
        "saved_query": nodes.SavedQuery,
        "unit_test": nodes.UnitTestDefinition,
        "generic_test": nodes.GenericTestNode,
    }
    function = getattr(nodes, "FunctionNode", None)
    return {**classes, **({"function": function} if function else {})}


def _node(classes: Mapping[str, type], fields: Mapping[str, Any]) -> Any:  # noqa: ANN401  # one of dbt's node classes
    """Make dbt's node of the fields that the trimmed manifest has; dbt's own constructors want all of them."""
    kind = "generic_test" if fields.get("test_metadata") else fields["resource_type"]
    node: Any = object.__new__(classes.get(kind) or classes["model"])
    nested = {name: _Config(fields[name]) for name in ("depends_on", "test_metadata") if fields.get(name)}
    config = _Config({"enabled": True, **(fields.get("config") or {})})
    vars(node).update({**fields, **nested, "config": config})
    return node
