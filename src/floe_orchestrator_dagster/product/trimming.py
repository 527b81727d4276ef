"""Trimming of dbt's manifest to the fields that Dagster needs."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.build_traits import TRAITS_FORMAT, build_traits
from floe_orchestrator_dagster.product.fingerprints import FINGERPRINT_FORMAT, fingerprints
from floe_orchestrator_dagster.product.references import (
    DEFINING_FIELDS,
    DEFINING_OVERLOAD_FIELDS,
    DEFINING_SETTINGS,
    function_version,
    variables_read,
)
from floe_orchestrator_dagster.product.sharing import COLLECTIONS_OF_NODES, FORMAT
from floe_orchestrator_dagster.product.values_read import NOTHING_READ, values_read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.product.build_traits import BuildTraits
    from floe_orchestrator_dagster.product.fingerprints import CodeFingerprint
    from floe_orchestrator_dagster.product.values_read import ValuesRead

logger = logging.getLogger(__name__)

CODE_VERSION = "code_version"
PORTABLE_CODE = "floe_portable_code"
VARIABLES = "floe_variables"
READS = "floe_reads"
ALWAYS_BUILT = "floe_always_built"
TEST_VERSION = "floe_test_version"
KEEPS_PARTITIONS = "floe_keeps_partitions"
VARYING_READS = "floe_varying_reads"

# Collections that dagster-dbt and dbt's selection read as a whole.
_KEPT_COLLECTIONS = (
    "metadata",
    "parent_map",
    "child_map",
    "groups",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
    "functions",
    "selectors",
)
# Fields of nodes and sources that dagster-dbt's translator, its check mapping and dbt's selection read. The bulk of a
# manifest is left out: raw and compiled code, refs, docs, contracts, build paths, and all macros and docs blocks.
_KEPT_FIELDS = (
    "unique_id",
    "resource_type",
    "name",
    "package_name",
    "fqn",
    "path",
    "original_file_path",
    "patch_path",
    "database",
    "schema",
    "alias",
    "identifier",
    "relation_name",
    "source_name",
    "version",
    "latest_version",
    "config",
    "unrendered_config",
    "meta",
    "tags",
    "group",
    "access",
    "description",
    "columns",
    "depends_on",
    "attached_node",
    "column_name",
    "test_metadata",
    "checksum",
    "freshness",
    "loaded_at_field",
    "loaded_at_query",
    "language",
)
# Fields that are kept of other nodes, but not of tests. Most nodes of a manifest are tests.
_LEFT_OUT_OF_TESTS = {
    "patch_path",
    "database",
    "schema",
    "alias",
    "relation_name",
    "version",
    "latest_version",
    "columns",
    "checksum",
    "language",
}
_KEPT_TEST_FIELDS = tuple(field for field in _KEPT_FIELDS if field not in _LEFT_OUT_OF_TESTS)
_NOTHING_WHEN_NULL = frozenset({"checksum", "columns", "depends_on", "meta", "tags", "unrendered_config"})
# Fields of columns that are kept, unless they are empty.
_KEPT_COLUMN_FIELDS = ("name", "data_type", "description", "tags", "meta", "constraints")
# dbt v2 copies these fields from a node to its columns without a config.
_COPIED_TO_COLUMNS = frozenset({"tags", "meta"})
# The argument of generic tests that is left out: it only repeats, as a template, which model the test reads.
_LEFT_OUT_ARGUMENT = "model"
VERSION_OF_TRIMMING = repr(
    (
        version("floe-orchestrator-dagster"),
        _KEPT_COLLECTIONS,
        _KEPT_FIELDS,
        sorted(_LEFT_OUT_OF_TESTS),
        _KEPT_COLUMN_FIELDS,
        "tags of columns as text, without those of the node",
        _LEFT_OUT_ARGUMENT,
        PORTABLE_CODE,
        VARIABLES,
        "variables of tests",
        "variables and files of disabled nodes",
        READS,
        ALWAYS_BUILT,
        TEST_VERSION,
        KEEPS_PARTITIONS,
        VARYING_READS,
        TRAITS_FORMAT,
        DEFINING_FIELDS,
        DEFINING_OVERLOAD_FIELDS,
        DEFINING_SETTINGS,
        FINGERPRINT_FORMAT,
        FORMAT,
    )
).encode()
"""Version of the trimming. A stored copy of another version is not used."""


def trim(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest that Dagster needs, about a quarter of its size.

    Fields are added. ``code_version`` is the fingerprint of models, seeds and snapshots, and the version of functions.
    ``floe_portable_code`` is the fingerprint without places, if it differs.
    ``floe_always_built`` is the reason why a node or test cannot be reused, and ``floe_test_version`` the version of a
    test. ``floe_reads`` has the values with which :mod:`build_fingerprints` completes the fingerprint.
    ``floe_keeps_partitions`` marks models of which a build of one partition leaves the rows of the others, and
    ``floe_varying_reads`` nodes whose inputs or settings may depend on variables.
    ``floe_variables`` of models, snapshots and data tests lists the dbt variables that they read by name.
    Disabled nodes only have ``floe_reads`` and ``patch_path``, if they have one of these.
    """
    kept = {key: content.get(key) or {} for key in _KEPT_COLLECTIONS}
    for collection in COLLECTIONS_OF_NODES:
        kept[collection] = {
            unique_id: {**_trim_node(node), "unique_id": unique_id} for unique_id, node in content[collection].items()
        }
    codes = fingerprints(content)
    for unique_id, fingerprint in codes.items():
        kept["nodes"][unique_id][CODE_VERSION] = fingerprint.code
        if fingerprint.portable != fingerprint.code:
            kept["nodes"][unique_id][PORTABLE_CODE] = fingerprint.portable
        if fingerprint.reads != NOTHING_READ:
            kept["nodes"][unique_id][READS] = _reads(fingerprint.reads)
    kept["unit_tests"] = {unique_id: dict(unit_test) for unique_id, unit_test in kept["unit_tests"].items()}
    _mark_traits(kept["nodes"], kept["unit_tests"], build_traits(content), codes)
    kept["functions"] = {unique_id: _trim_function(node) for unique_id, node in kept["functions"].items()}
    for unique_id, names in variables_read(content).items():
        kept["nodes"][unique_id][VARIABLES] = names
    disabled = content.get("disabled")
    kept["disabled"] = (
        {key: _trim_disabled(nodes) for key, nodes in disabled.items()} if isinstance(disabled, dict) else {}
    )
    return kept


def _trim_disabled(nodes: object) -> dict[str, Any] | None:
    """Return what may enable a node in an invocation with other values of variables; None without anything."""
    entries = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    read = values_read(str(node.get("raw_code") or "") for node in entries)
    files = sorted({str(node["patch_path"]) for node in entries if node.get("patch_path")})
    if read == NOTHING_READ and not files:
        return None
    return {READS: _reads(read), "patch_path": files}


def _mark_traits(
    nodes: Mapping[str, dict[str, Any]],
    unit_tests: Mapping[str, dict[str, Any]],
    traits: BuildTraits,
    codes: Mapping[str, CodeFingerprint],
) -> None:
    for unique_id, reason in traits.always.items():
        (nodes if unique_id in nodes else unit_tests)[unique_id][ALWAYS_BUILT] = reason
    for unique_id in traits.partitioned:
        nodes[unique_id][KEEPS_PARTITIONS] = True
    for unique_id in traits.varying:
        nodes[unique_id][VARYING_READS] = True
    for unique_id, test_version in traits.tests.items():
        if unique_id in nodes:
            nodes[unique_id][TEST_VERSION] = test_version
            continue
        # The version of a unit test is also that of the models that it tests.
        read = (unit_tests[unique_id].get("depends_on") or {}).get("nodes") or ()
        tested = [codes[key].code[:16] for key in read if key in codes]
        unit_tests[unique_id][TEST_VERSION] = "-".join([test_version, *tested])


def _trim_node(node: Mapping[str, Any]) -> dict[str, Any]:
    if node.get("resource_type") == "test":
        return _trim_test(node)
    kept = _kept(node, _KEPT_FIELDS)
    columns = kept.get("columns")
    if columns:
        kept["columns"] = {name: _trim_column(column, node) for name, column in columns.items()}
    return kept


def _reads(read: ValuesRead) -> dict[str, list[str] | None]:
    kinds = {"variables": read.variables, "environment": read.environment}
    return {kind: None if names is None else sorted(names) for kind, names in kinds.items() if names != frozenset()}


def _trim_function(function: Mapping[str, Any]) -> dict[str, Any]:
    return {**_trim_node(function), CODE_VERSION: function_version(function)}


def _kept(node: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return these fields, without null where dagster-dbt expects a mapping or a list."""
    return {
        field: value
        for field in fields
        if field in node and not ((value := node[field]) is None and field in _NOTHING_WHEN_NULL)
    }


def _trim_test(test: Mapping[str, Any]) -> dict[str, Any]:
    kept = _kept(test, _KEPT_TEST_FIELDS)
    if "depends_on" in kept:
        # Nothing reads the names of macros. Without them, the tests of a model have the same value, stored once.
        kept["depends_on"] = {**kept["depends_on"], "macros": []}
    generic = kept.get("test_metadata")
    if generic and generic.get("kwargs"):
        arguments = {name: value for name, value in generic["kwargs"].items() if name != _LEFT_OUT_ARGUMENT}
        kept["test_metadata"] = {**generic, "kwargs": arguments}
    return kept


def _trim_column(column: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that describe a column. dbt accepts tags of any type in ``config``, Dagster only strings.

    dbt v2 copies tags and meta of a node to its columns that have none. They are left out, as in dbt-core.
    """
    is_copied = column.get("config") == {}
    kept = {
        field: column[field]
        for field in _KEPT_COLUMN_FIELDS
        if column.get(field) and not (is_copied and field in _COPIED_TO_COLUMNS and column[field] == node.get(field))
    }
    if "tags" in kept:
        kept["tags"] = [str(tag) for tag in kept["tags"]]
    return kept
