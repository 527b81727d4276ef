"""dbt's graph of a project, as dbt's own selection engine walks it; dbt is imported by the first selection."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

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
_WILDCARDS = frozenset("*?[]")


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
    selector.graph = Graph(selector.graph.graph.copy())
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
            candidates = _candidates(spec, self._by_part) if spec.method == "fqn" else None
            members = self._members if candidates is None else self._members & candidates
            return super().select_included(members, spec)

        @cached_property
        def _members(self) -> set[UniqueId]:
            # dbt hands over a view of its graph, in which looking something up takes much longer.
            return set(self.graph.nodes())

        @cached_property
        def _by_part(self) -> Mapping[str, set[str]]:
            return _nodes_by_part(self.manifest)

    return Selector


def _candidates(spec: SelectionCriteria, by_part: Mapping[str, set[str]]) -> AbstractSet[str] | None:
    """Find the nodes that a name can match, some more perhaps; None when any node can.

    dbt compares the name with the whole of a node's FQN, its beginning (with or without the package) or its end.
    """
    name = str(spec.value)
    if _WILDCARDS & set(name):
        return None
    return by_part.get(name, set()) | by_part.get(name.partition(".")[0], set()) | by_part.get("", set())


def _nodes_by_part(manifest: Any) -> Mapping[str, set[str]]:  # noqa: ANN401  # dbt's, with our collections
    """List the nodes by each part of their FQN; versioned models, which have other rules, by the empty name."""
    by_part: defaultdict[str, set[str]] = defaultdict(set)
    for collection in _COLLECTIONS:
        for unique_id, node in (getattr(manifest, collection, None) or {}).items():
            segments = node.fqn
            parts = {*segments, *(part for segment in segments if "." in segment for part in segment.split("."))}
            if getattr(node, "version", None) is not None:
                parts.add("")
            for part in parts:
                by_part[part].add(unique_id)
    return by_part


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
    nested = {name: _Config(fields[name]) for name in ("config", "depends_on", "test_metadata") if fields.get(name)}
    vars(node).update({**fields, **nested})
    return node
