"""dbt selections on a product: dbt's own engine, on one graph however many selections are asked for.

dagster-dbt resolves a selection on a graph that it builds for it; ten schedules would build ten.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import ConfigError, DbtSetupError, Problem
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbt.graph.selector import NodeSelector
    from dbt.graph.selector_spec import SelectionUnion

    from floe_orchestrator_dagster.product import DbtProject, Product

EVERYTHING = "fqn:*"
_TESTS = ("test.", "unit_test.")

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


class NodeSelection:
    """The selections of one product, on one graph."""

    def __init__(self, product: Product) -> None:
        """Select among the nodes of ``product``; making this costs nothing."""
        self._product = product
        self._graph = _DbtGraph(product.dbt) if product.dbt else None

    def unique_ids(self, select: str, exclude: str | None, where: str) -> frozenset[str]:
        """Return the unique ids of the selected assets: models (not ephemeral ones), seeds and snapshots.

        Of a product without a dbt project everything can be selected, and nothing less: its declared models, by name.

        Args:
            select: dbt selection (https://docs.getdbt.com/reference/node-selection/syntax).
            exclude: dbt selection of what is left out.
            where: Place of the section in the configuration that has both, as ``config_path`` writes it.

        Raises:
            ConfigError: A selection that dbt cannot read, that matches nothing or no asset, or that needs a dbt project
                which the product does not have.
        """
        if self._product.dbt is None:
            if select == EVERYTHING and not exclude:
                return frozenset(model.name for model in self._product.models)
            raise self._needs_project(select, exclude, where)
        selected = self._assets
        if select != EVERYTHING:
            selected = selected & self._selected(select, f"{where}.select")
        if not selected:
            what = f"{select!r} selects no model, seed or snapshot"
            raise self._error(f"{where}.select", what, _look(select))
        kept = selected - self._excluded(exclude, f"{where}.exclude") if exclude else selected
        if not kept:
            what = f"{exclude!r} leaves nothing of what {select!r} selects"
            raise self._error(f"{where}.exclude", what, _look(exclude or ""))
        return kept

    def excluded(self, selection: str) -> frozenset[str]:
        """Find what a run leaves out: what a selection matches and, as with dbt's ``--exclude``, the tests on it.

        Raises:
            DbtSetupError: A selection that dbt cannot read.
        """
        try:
            matched = self._excluded(selection, "exclude")
        except ConfigError as error:
            [problem] = error.problems
            fix = "See https://docs.getdbt.com/reference/node-selection/syntax."
            raise DbtSetupError(f"run configuration, exclude: {problem.what}. {fix}") from None
        children = self._product.dbt.manifest.content["child_map"] if self._product.dbt else {}
        on_them = (child for unique_id in matched for child in children.get(unique_id, ()))
        return frozenset(matched) | {child for child in on_them if child.startswith(_TESTS)}

    @cached_property
    def _assets(self) -> frozenset[str]:
        nodes = self._product.dbt.manifest.asset_nodes if self._product.dbt else []
        return frozenset(node["unique_id"] for node in nodes)

    def _needs_project(self, select: str, exclude: str | None, where: str) -> ConfigError:
        key, text = ("exclude", exclude) if select == EVERYTHING and exclude else ("select", select)
        what = f"{text!r} cannot be resolved: product {self._product.name!r} has no dbt project here"
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory that holds dbt_project.yml, or leave the selection out."
        return self._error(f"{where}.{key}", what, fix)

    def _selected(self, selection: str, where: str) -> set[str]:
        """Find everything that a selection matches, tests and sources too; each part of its union must match."""
        found: set[str] = set()
        for part, matched in self._matches(selection, where):
            if not matched:
                among = "" if part == selection.strip() else f" (in {selection!r})"
                raise self._error(where, f"{part!r} matches nothing{among}", _look(part))
            found |= matched
        return found

    def _excluded(self, selection: str, where: str) -> set[str]:
        return {unique_id for _, matched in self._matches(selection, where) for unique_id in matched}

    def _matches(self, selection: str, where: str) -> list[tuple[str, set[str]]]:
        from dbt_common.exceptions import DbtBaseException

        try:
            return self._graph.matches(selection) if self._graph else []
        except (DbtBaseException, ValueError, NotImplementedError, IndexError, OSError) as error:
            # Besides dbt's own: what pathlib and fnmatch say to a path or a pattern that they cannot read.
            reason = " ".join(str(getattr(error, "msg", error)).split())
            what = f"{selection!r} is no dbt selection: {reason}"
            fix = "See https://docs.getdbt.com/reference/node-selection/syntax. Correct it in manifest.yaml."
            raise self._error(where, what, fix) from None

    def _error(self, where: str, what: str, fix: str) -> ConfigError:
        return ConfigError(self._product.origin, [Problem(where, what, fix)])


def _look(selection: str) -> str:
    return f"`dbt ls --select {selection!r}` shows what it matches. Correct it in manifest.yaml."


class _DbtGraph:
    """dbt's graph of a project; dbt is imported and the graph built by the first selection."""

    def __init__(self, dbt: DbtProject) -> None:
        self._dbt = dbt

    def matches(self, selection: str) -> list[tuple[str, set[str]]]:
        """Find what each part of a union matches, tests and sources too."""
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
    from dbt.graph.selector import NodeSelector
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
    selector = NodeSelector(Graph(graph), manifest)
    # dbt looks at the enabled nodes through a filtered view, several times slower to walk than a graph.
    selector.graph = Graph(selector.graph.graph.copy())
    return selector


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
