"""dbt's manifest trimmed to what Dagster needs, and a copy of that beside it, so that it is parsed whole once.

The copy is used for exactly the bytes that it was made of. Another manifest, another version of this package, a damaged
copy, or one that another user could have written make a new one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.errors import ManifestError
from floe_orchestrator_dagster.product.functions import (
    DEFINING_FIELDS,
    DEFINING_SETTINGS,
    function_version,
    versions_with_functions,
)
from floe_orchestrator_dagster.product.manifest_shape import too_deep
from floe_orchestrator_dagster.product.sharing import COLLECTIONS_OF_NODES, FORM, joined, parted
from floe_orchestrator_dagster.product.trust import why_distrusted
from floe_orchestrator_dagster.product.variables import variables_read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

CODE_VERSION = "code_version"
VARIABLES = "floe_variables"
TRIMMED_FILE = "floe_manifest.json"

# Whole collections that dagster-dbt and dbt's own selection read.
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
# Of a node or source, what dagster-dbt's translator, its check mapping and dbt's selection read. Left out are the
# bulk of a manifest: raw and compiled code, refs, docs, contracts, build paths, and all macros and docs blocks.
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
# Of a test, those that the same readers want of it: most nodes of a manifest are tests.
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
# Of a column, what is said about it; dbt writes as many empty fields again.
_KEPT_COLUMN_FIELDS = ("name", "data_type", "description", "tags", "meta", "constraints")
# Of a test's arguments, what tells nothing: the template by which it finds its model.
_LEFT_OUT_ARGUMENT = "model"
# A copy that another version of this trimming made is of no use.
_MADE_BY = repr(
    (
        version("floe-orchestrator-dagster"),
        _KEPT_COLLECTIONS,
        _KEPT_FIELDS,
        sorted(_LEFT_OUT_OF_TESTS),
        _KEPT_COLUMN_FIELDS,
        "tags of columns as text",
        _LEFT_OUT_ARGUMENT,
        VARIABLES,
        DEFINING_FIELDS,
        DEFINING_SETTINGS,
        FORM,
    )
).encode()
_SCRATCH_PREFIX = ".floe_manifest-"
_ABANDONED_AFTER_SECONDS = 3600
_CHUNK_BYTES = 1 << 20
_COPY_PERMISSIONS = 0o755


def trim(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of a manifest what Dagster needs; about a quarter of its size.

    All but tests carry ``code_version``: the SHA-1 of the raw code, as dagster-dbt computes it, with the versions of
    the functions that the code calls. Models and snapshots that read dbt variables carry their names,
    ``floe_variables``.
    """
    kept = {key: content.get(key) or {} for key in _KEPT_COLLECTIONS}
    for collection in COLLECTIONS_OF_NODES:
        kept[collection] = {
            unique_id: {**_trim_node(node), "unique_id": unique_id} for unique_id, node in content[collection].items()
        }
    versions = {unique_id: node.get(CODE_VERSION) for unique_id, node in kept["nodes"].items() if CODE_VERSION in node}
    for unique_id, combined in versions_with_functions(content, versions).items():
        kept["nodes"][unique_id][CODE_VERSION] = combined
    kept["functions"] = {unique_id: _trim_function(node) for unique_id, node in kept["functions"].items()}
    for unique_id, names in variables_read(content).items():
        kept["nodes"][unique_id][VARIABLES] = names
    disabled = content.get("disabled")
    kept["disabled"] = dict.fromkeys(disabled) if isinstance(disabled, dict) else {}
    return kept


def read_trimmed(manifest: Path) -> dict[str, Any] | None:
    """Read the copy of a manifest; None when there is none, or none of this manifest that can be used."""
    path = manifest.with_name(TRIMMED_FILE)
    try:
        with path.open("rb") as file:
            distrusted = why_distrusted(file.fileno())
            if distrusted is not None:
                logger.warning("%s is not used: %s", path, distrusted)
                return None
            # A file of our own, written whole: in no case is it larger than the manifest.
            kept = memoryview(file.read())
        source = _digest_of_file(manifest)
    except OSError:
        return None
    seal = _seal(source, kept[_SEAL_LENGTH:])
    if kept[:_SEAL_LENGTH] != seal:
        logger.debug("%s is not of %s, or damaged", path, manifest)
        return None
    content: dict[str, Any] = orjson.loads(kept[_SEAL_LENGTH:])
    return joined(content)


def write_trimmed(manifest: Path, source: bytes, content: Mapping[str, Any]) -> None:
    """Write the copy of a manifest, in one step; where it cannot be written, the next load parses the manifest again.

    Args:
        manifest: The manifest's path.
        source: Its bytes.
        content: What :func:`trim` made of them.

    Raises:
        ManifestError: Values in it are nested deeper than JSON can be written.
    """
    try:
        body = orjson.dumps(parted(content))
    except TypeError:
        raise ManifestError(str(manifest), [too_deep()]) from None
    try:
        _remove_abandoned(manifest.parent)
        with tempfile.NamedTemporaryFile(dir=manifest.parent, prefix=_SCRATCH_PREFIX, delete=False) as file:
            file.write(_seal(_digest(source), body))
            file.write(body)
        # Who may read the manifest may read the copy, which nobody but this user writes.
        Path(file.name).chmod(manifest.stat().st_mode & _COPY_PERMISSIONS)
        Path(file.name).replace(manifest.with_name(TRIMMED_FILE))
    except OSError as error:
        logger.debug("%s: no trimmed copy beside it: %s", manifest, error)


def _trim_node(node: Mapping[str, Any]) -> dict[str, Any]:
    if node.get("resource_type") == "test":
        return _trim_test(node)
    kept = _kept(node, _KEPT_FIELDS)
    columns = kept.get("columns")
    if columns:
        kept["columns"] = {name: _trim_column(column) for name, column in columns.items()}
    code = node.get("raw_code")
    # As dagster-dbt's default: code versions stay the same for who comes from plain dagster-dbt.
    kept[CODE_VERSION] = (
        hashlib.sha1(code.encode(), usedforsecurity=False).hexdigest()
        if code
        else (node.get("checksum") or {}).get("checksum")
    )
    return kept


def _trim_function(function: Mapping[str, Any]) -> dict[str, Any]:
    return {**_trim_node(function), CODE_VERSION: function_version(function)}


def _kept(node: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Take these fields; null where dagster-dbt wants a mapping or a list is as good as nothing."""
    return {
        field: value
        for field in fields
        if field in node and not ((value := node[field]) is None and field in _NOTHING_WHEN_NULL)
    }


def _trim_test(test: Mapping[str, Any]) -> dict[str, Any]:
    kept = _kept(test, _KEPT_TEST_FIELDS)
    if "depends_on" in kept:
        # Its macros are of no use without the macros themselves; so the tests of a model have this in common.
        kept["depends_on"] = {**kept["depends_on"], "macros": []}
    generic = kept.get("test_metadata")
    if generic and generic.get("kwargs"):
        arguments = {name: value for name, value in generic["kwargs"].items() if name != _LEFT_OUT_ARGUMENT}
        kept["test_metadata"] = {**generic, "kwargs": arguments}
    return kept


def _trim_column(column: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what is said about a column; dbt takes tags of any type in its ``config``, and Dagster takes texts."""
    kept = {field: column[field] for field in _KEPT_COLUMN_FIELDS if column.get(field)}
    if "tags" in kept:
        kept["tags"] = [str(tag) for tag in kept["tags"]]
    return kept


def _seal(source: bytes, body: bytes | memoryview) -> bytes:
    """Bind a copy to the manifest it was made of, to what made it, and to its own bytes."""
    return hashlib.sha256(source + _digest(_MADE_BY) + _digest(body)).hexdigest().encode() + b"\n"


_SEAL_LENGTH = hashlib.sha256().digest_size * 2 + 1


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).digest()


def _digest_of_file(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def _remove_abandoned(directory: Path) -> None:
    """Remove what writers left behind when they were killed."""
    for path in directory.glob(f"{_SCRATCH_PREFIX}*"):
        with suppress(FileNotFoundError):  # another process may be removing it too
            status = path.stat()
            if status.st_uid == os.geteuid() and status.st_mtime < time.time() - _ABANDONED_AFTER_SECONDS:
                path.unlink()
