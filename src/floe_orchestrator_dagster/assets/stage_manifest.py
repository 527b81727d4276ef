"""Manifest of one stage as ``@dbt_assets`` reads it.

dagster-dbt defines checks only for data tests that are children of a selected node. Unit tests are therefore data tests
here, and each test is a child of a node of its stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.manifest import Manifest
from floe_orchestrator_dagster.upstream.dagster_dbt_names import with_functions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from floe_orchestrator_dagster.assets.stages import Stage

# dagster-dbt creates checks only for unique ids with this prefix. Unit tests get it while dagster-dbt reads them.
UNIT_TEST_PREFIX = "test:"

# A config entry that marks the nodes of a stage for dbt's selection, in this process only.
_STAGE_CONFIG = "floe_stage"
# Collections of a manifest whose members no asset depends on.
_ONLY_READING = ("exposures", "metrics", "semantic_models", "saved_queries")
_TESTS = ("test.", "unit_test.")
_UNIT_TEST_FIELDS = ("name", "package_name", "fqn", "path", "original_file_path", "config", "depends_on", "description")


def stage_manifest(manifest: Manifest, stage: Stage) -> Manifest:
    """Return the manifest with the stage's tests as children of its nodes, and without other tests as children."""
    content = with_functions(manifest.content)
    children = {
        key: [child for child in values if not child.startswith(_TESTS)]
        for key, values in content["child_map"].items()
        if not key.startswith(_TESTS)
    }
    first = min(stage.nodes)
    for test, placed in stage.tests.items():
        parent = placed.checks if placed.checks in stage.nodes else min(placed.reads & stage.nodes, default=first)
        children.setdefault(parent, []).append(dagster_dbt_id(content, test))
    content = with_unit_tests(content, stage.tests)
    return Manifest(manifest.path, {**content, "child_map": children, "unit_tests": {}})


def with_unit_tests(content: Mapping[str, Any], tests: Iterable[str]) -> dict[str, Any]:
    """Return a manifest's content to which the unit tests among ``tests`` are added as data tests."""
    units = content["unit_tests"]
    added = {dagster_dbt_id(content, test): units[test] for test in tests if test in units}
    return {
        **content,
        "nodes": {**content["nodes"], **{test: _data_test(unit, test) for test, unit in added.items()}},
    }


def dagster_dbt_id(content: Mapping[str, Any], test: str) -> str:
    """Return the unique id of a test for dagster-dbt: its own; for a unit test, that of the data test in its place."""
    return f"{UNIT_TEST_PREFIX}{test}" if test in content["unit_tests"] else test


def _data_test(unit_test: Mapping[str, Any], unique_id: str) -> dict[str, Any]:
    return {
        **{field: unit_test.get(field) for field in _UNIT_TEST_FIELDS},
        "unique_id": unique_id,
        "resource_type": "test",
        "tags": [],
    }


def marked_manifest(content: Mapping[str, Any], nodes: Iterable[str], name: str) -> dict[str, Any]:
    """Return a manifest's content in which ``selection_of_marked(name)`` selects ``nodes``.

    dagster-dbt creates dbt's functions, semantic models and saved queries from fields that the trimmed manifest lacks.
    Functions are therefore nodes here, and the others are left out.
    """
    marked = {**content["nodes"], **(content.get("functions") or {})}
    for unique_id in nodes:
        marked[unique_id] = {**marked[unique_id], "config": {**marked[unique_id]["config"], _STAGE_CONFIG: name}}
    members = marked.keys() | content["sources"].keys()
    children = {
        key: [child for child in values if child in members]
        for key, values in content["child_map"].items()
        if key in members
    }
    others: dict[str, Any] = {collection: {} for collection in ("functions", *_ONLY_READING)}
    return {**content, **others, "nodes": marked, "child_map": children}


def selection_of_marked(name: str) -> str:
    """Return dbt's selection of the nodes that :func:`marked_manifest` marks with ``name``."""
    return f"config.{_STAGE_CONFIG}:{name}"
