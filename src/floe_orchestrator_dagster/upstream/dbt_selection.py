"""dbt's selection engine on the graph of a project; dbt is imported by the first selection.

dbt has no public function for selections. Its engine wants a manifest with nodes of its own classes, which it makes in
seconds for a large project: here they are made without their constructors, of the fields that a trimmed manifest has.
Without this patch dbt reads manifest.json.
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dbt.artifacts.resources.v1.generic_test import GenericTest
    from dbt.contracts.graph.manifest import Manifest
    from dbt.graph.selector import NodeSelector
    from dbt.graph.selector_spec import SelectionUnion

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
# Attributes of dbt's module of node classes.
_CLASSES = {
    "model": "ModelNode",
    "seed": "SeedNode",
    "snapshot": "SnapshotNode",
    "test": "SingularTestNode",
    "analysis": "AnalysisNode",
    "operation": "HookNode",
    "source": "SourceDefinition",
    "exposure": "Exposure",
    "metric": "Metric",
    "semantic_model": "SemanticModel",
    "saved_query": "SavedQuery",
    "unit_test": "UnitTestDefinition",
    "generic_test": "GenericTestNode",
}
_FUNCTION = "FunctionNode"


class UnreadableSelectionError(ValueError):
    """A selection that dbt cannot read; the message is dbt's. Callers report it as an error of this package."""


@dataclass(frozen=True)
class DbtGraph:
    """dbt's graph of a project; the first selection builds it.

    Attributes:
        content: The project's manifest, as far as selections need it.
        manifest: The project's manifest.json.
        project: Directory of the project, below which ``path:`` looks.
    """

    content: Mapping[str, Any]
    manifest: Path
    project: Path

    def matches(self, selection: str) -> list[tuple[str, set[str]]]:
        """Return what each part of a union matches, tests and sources too.

        Raises:
            UnreadableSelectionError: A selection that dbt cannot read.
            ManifestError: A manifest.json that dbt cannot read; only where the patch is not used.
        """
        from dbt_common.events.contextvars import task_contextvars
        from dbt_common.exceptions import DbtBaseException

        found, selector = [], self._selector
        try:
            # `path:` is looked up in the file system, by default below the working directory.
            with task_contextvars(project_root=str(self.project)):
                for part in _parsed(selection).components:
                    matched, _ = selector.select_nodes(part)
                    found.append((str(part.raw), {str(unique_id) for unique_id in matched}))
        except (DbtBaseException, ValueError, NotImplementedError, IndexError, OSError) as error:
            # Besides dbt's own: errors of pathlib and fnmatch for a path or a pattern that they cannot read.
            reason = " ".join(str(getattr(error, "msg", error)).split())
            raise UnreadableSelectionError(reason) from error
        return found

    @cached_property
    def _selector(self) -> NodeSelector:
        from dbt.graph.graph import Graph
        from dbt.graph.selector import NodeSelector
        from networkx import DiGraph  # type: ignore[import-untyped]  # dbt brings it, without types

        graph = DiGraph(self.content["child_map"])
        members = (self.content.get(name) or {} for name in _COLLECTIONS)
        graph.add_nodes_from(unique_id for collection in members for unique_id in collection)
        is_patched = patches.is_active(patches.DBT_NODES)
        manifest = _manifest(self.content) if is_patched else _manifest_as_dbt_reads_it(self.manifest)
        selector = NodeSelector(Graph(graph), manifest)
        # dbt looks at the enabled nodes through a filtered view, several times slower to walk than a graph.
        is_whole = len(selector.graph.nodes()) == len(graph)
        selector.graph = Graph(graph if is_whole else selector.graph.graph.copy())
        return selector


def find_problem() -> str | None:
    """Return why dbt's nodes cannot be made without their constructors; None when they can."""
    from dbt.contracts.graph import nodes
    from dbt.contracts.graph.manifest import Manifest

    missing = [name for name in _CLASSES.values() if not hasattr(nodes, name)]
    if missing:
        return f"dbt.contracts.graph.nodes has no {', '.join(missing)}"
    manifest = Manifest()
    missing = [name for name in _COLLECTIONS if name != "functions" and not hasattr(manifest, name)]
    return f"dbt's Manifest has no {', '.join(missing)}" if missing else None


@contextmanager
def _selection_flags() -> Iterator[None]:
    """Give dbt's parser the one flag that it reads, and dbt its flags back."""
    from dbt import flags

    before = flags.GLOBAL_FLAGS
    # Tests are not assets: finding those of the selected models would be wasted work.
    flags.GLOBAL_FLAGS = Namespace(INDIRECT_SELECTION="empty")
    try:
        yield
    finally:
        flags.GLOBAL_FLAGS = before


def _parsed(selection: str) -> SelectionUnion:
    from dbt.graph.cli import parse_union

    with _selection_flags():
        return parse_union([" ".join(selection.split())], expect_exists=False)


def _manifest_as_dbt_reads_it(path: Path) -> Manifest:
    from dbt.artifacts.schemas.manifest import WritableManifest
    from dbt.contracts.graph.manifest import Manifest
    from dbt_common.exceptions import DbtBaseException

    try:
        written = WritableManifest.read_and_check_versions(str(path))
        written.nodes = {**written.nodes, **_generic_tests(path)}
        return Manifest.from_writable_manifest(written)
    except (DbtBaseException, LookupError, ValueError) as error:
        what = f"dbt cannot read it: {_reason(error)}"
        raise ManifestError(str(path), [Problem("", what, "Run `floe-dagster prepare` with this dbt.")]) from None


def _generic_tests(path: Path) -> dict[str, GenericTest]:
    """Read the generic tests of a manifest, which dbt reads as singular tests: it takes the first class that fits."""
    from dbt.artifacts.resources.v1.generic_test import GenericTest

    nodes = orjson.loads(path.read_bytes())["nodes"]
    return {
        unique_id: GenericTest.from_dict(fields) for unique_id, fields in nodes.items() if fields.get("test_metadata")
    }


def _reason(error: Exception) -> str:
    """Describe why a manifest cannot be read. The message of an unexpected field would repeat all of the manifest."""
    field = getattr(error, "field_name", None)
    if field is not None:
        return f"its field {field!r} is missing or is not as this dbt expects"
    return " ".join(str(getattr(error, "msg", error)).split())


def _manifest(content: Mapping[str, Any]) -> Manifest:
    from dbt.contracts.graph.manifest import Manifest

    classes = _node_classes()
    manifest = Manifest()
    for name in _COLLECTIONS:
        collection = content.get(name)
        if collection:
            setattr(manifest, name, {unique_id: _node(classes, fields) for unique_id, fields in collection.items()})
    manifest.metadata.project_name = content["metadata"].get("project_name")
    return manifest


class _Config(dict[str, Any]):
    """A node's config, which dbt reads as attributes."""

    def __getattr__(self, name: str) -> object:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(name) from None
        return _Config(value) if isinstance(value, dict) else value


def _node_classes() -> dict[str, type]:
    """Return dbt's class of each resource type, for several methods (``access:``, ``version:``, ``test_type:``) ask."""
    from dbt.contracts.graph import nodes

    classes: dict[str, type] = {kind: getattr(nodes, name) for kind, name in _CLASSES.items()}
    function = getattr(nodes, _FUNCTION, None)
    return {**classes, **({"function": function} if function else {})}


def _node(classes: Mapping[str, type], fields: Mapping[str, Any]) -> Any:  # noqa: ANN401  # one of dbt's node classes
    """Make dbt's node of the fields that the trimmed manifest has; dbt's own constructors want all of them."""
    kind = "generic_test" if fields.get("test_metadata") else fields["resource_type"]
    node: Any = object.__new__(classes.get(kind) or classes["model"])
    nested = {name: _Config(fields[name]) for name in ("depends_on", "test_metadata") if fields.get(name)}
    config = _Config({"enabled": True, **(fields.get("config") or {})})
    vars(node).update({**fields, **nested, "config": config})
    return node
