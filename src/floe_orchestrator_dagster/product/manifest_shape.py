"""Shape of dbt's manifest: the types of what this package, dagster-dbt and dbt's node selection read of it.

dbt writes null where a value is not set, and other keys besides these; both are right. A manifest is checked when it is
parsed, once for each version of it; its trimmed copy is not.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.wording import json_type_of, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

_PREPARE = "floe-dagster prepare"
_MOST_SHOWN = 20
_READABLE = ("nodes", "sources", "functions", "exposures", "metrics", "semantic_models", "saved_queries", "unit_tests")
# Parts of a node that its author writes; dbt makes up the others.
_AUTHORED = frozenset({"columns", "config", "description", "meta", "tags"})


def _texts(value: object) -> object:
    if value is None or isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise ValueError("must be a string or a list of strings")


Texts = Annotated[Any, AfterValidator(_texts)]


class DagsterRef(TypedDict):
    """The model that a test is a check of, ``meta.dagster.ref``."""

    name: str
    package: NotRequired[str | None]
    version: NotRequired[Any]


class DagsterMeta(TypedDict):
    """What dagster-dbt reads of ``meta.dagster``."""

    asset_key: NotRequired[Texts]
    group: NotRequired[str | None]
    owners: NotRequired[Any]  # each one is checked by itself, where owners are read
    auto_materialize_policy: NotRequired[dict[str, Any]]
    ref: NotRequired[DagsterRef | None]


class Meta(TypedDict):
    """Free keys, but for ``dagster``."""

    dagster: NotRequired[DagsterMeta]
    description: NotRequired[Any]


class Config(TypedDict):
    """A node's configuration."""

    materialized: NotRequired[str | None]
    schema: NotRequired[str | None]
    group: NotRequired[str | None]
    severity: NotRequired[str | None]
    meta: NotRequired[Meta | None]


class Column(TypedDict):
    """What is said about a column; dbt takes tags of any type in its ``config``."""

    name: NotRequired[str]
    data_type: NotRequired[str | None]
    description: NotRequired[str | None]
    tags: NotRequired[list[Any] | None]


class DependsOn(TypedDict):
    """What a node reads and calls."""

    nodes: NotRequired[list[str]]
    macros: NotRequired[list[str] | None]


class GenericTest(TypedDict):
    """A generic test's name and arguments."""

    name: str
    namespace: NotRequired[str | None]
    kwargs: NotRequired[dict[str, Any] | None]


class Checksum(TypedDict):
    """The checksum of a node's file."""

    checksum: NotRequired[str | None]


class Named(TypedDict):
    """What all members of dbt's graph have."""

    name: str
    resource_type: str
    package_name: str
    fqn: list[str]
    original_file_path: NotRequired[str | None]
    meta: NotRequired[Meta | None]
    tags: NotRequired[Texts]
    description: NotRequired[str | None]


class Node(Named):
    """A model, seed, snapshot, test, analysis or operation."""

    config: Config
    unique_id: NotRequired[str]
    path: NotRequired[str | None]
    patch_path: NotRequired[str | None]
    database: NotRequired[str | None]
    schema: NotRequired[str | None]
    alias: NotRequired[str | None]
    identifier: NotRequired[str | None]
    relation_name: NotRequired[str | None]
    group: NotRequired[str | None]
    access: NotRequired[str | None]
    columns: NotRequired[dict[str, Column] | None]
    depends_on: NotRequired[DependsOn | None]
    attached_node: NotRequired[str | None]
    column_name: NotRequired[str | None]
    test_metadata: NotRequired[GenericTest | None]
    checksum: NotRequired[Checksum | None]
    unrendered_config: NotRequired[dict[str, Any] | None]
    raw_code: NotRequired[str | None]
    language: NotRequired[str | None]


class Limit(TypedDict):
    """When data are too old."""

    count: NotRequired[int | None]
    period: NotRequired[str | None]


class Freshness(TypedDict):
    """When a source's data are too old."""

    warn_after: NotRequired[Limit | None]
    error_after: NotRequired[Limit | None]


class Source(Node):
    """A table of a source."""

    source_name: str
    freshness: NotRequired[Freshness | None]


class UnitTest(Named):
    """A unit test."""

    config: NotRequired[Config | None]
    depends_on: NotRequired[DependsOn | None]


class Macro(TypedDict):
    """A macro."""

    macro_sql: NotRequired[str | None]
    depends_on: NotRequired[DependsOn | None]


class Owner(TypedDict):
    """Who owns a group."""

    email: NotRequired[Texts]


class Group(TypedDict):
    """A group of models."""

    name: str
    owner: NotRequired[Owner]


class Metadata(TypedDict):
    """What dbt says about the project."""

    project_name: NotRequired[str | None]
    adapter_type: NotRequired[str | None]


class ManifestShape(TypedDict):
    """The collections that are read."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]  # how pydantic configures a TypedDict

    metadata: Metadata
    nodes: dict[str, Node]
    sources: dict[str, Source]
    parent_map: dict[str, list[str]]
    child_map: dict[str, list[str]]
    macros: NotRequired[dict[str, Macro] | None]
    groups: NotRequired[dict[str, Group] | None]
    exposures: NotRequired[dict[str, Named] | None]
    metrics: NotRequired[dict[str, Named] | None]
    semantic_models: NotRequired[dict[str, Named] | None]
    saved_queries: NotRequired[dict[str, Named] | None]
    functions: NotRequired[dict[str, Node] | None]
    unit_tests: NotRequired[dict[str, UnitTest] | None]
    selectors: NotRequired[dict[str, Any] | None]


def checked_shape(content: object, path: Path) -> Mapping[str, Any]:
    """Return the content of a file that is a dbt manifest.

    Raises:
        ManifestError: Everything that is missing or has another type, each with its place and the node's file.
    """
    try:
        _adapter().validate_python(content)
    except ValidationError as error:
        details = _each_once(error.errors(include_url=False))
        problems = [_problem(found, content) for found in details[:_MOST_SHOWN]]
        if len(details) > _MOST_SHOWN:
            rest = f"and {len(details) - _MOST_SHOWN} more of this kind"
            problems.append(Problem("", rest, f"Run `{_PREPARE}` once these are corrected."))
        raise ManifestError(str(path), problems) from None
    manifest = cast("Mapping[str, Any]", content)
    missing = [*_missing_parents(manifest)] or [*_missing_relatives(manifest)]
    if missing:
        raise ManifestError(str(path), missing[:_MOST_SHOWN])
    return manifest


def _missing_parents(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what nodes read and the manifest does not have, of which dagster-dbt makes no asset key."""
    known = _known(manifest)
    for unique_id, node in manifest["nodes"].items():
        for parent in (node.get("depends_on") or {}).get("nodes") or ():
            if parent not in known:
                yield _missing(f"nodes.{unique_id}.depends_on.nodes", "reads", parent)


def _missing_relatives(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what dbt's own maps of the graph name and the manifest does not have."""
    known = _known(manifest)
    for name in ("parent_map", "child_map"):
        for unique_id, relatives in manifest[name].items():
            for relative in (unique_id, *relatives):
                if relative not in known:
                    yield _missing(f"{name}.{unique_id}", "names", relative)


def _known(manifest: Mapping[str, Any]) -> set[str]:
    return {unique_id for collection in _READABLE for unique_id in manifest.get(collection) or ()}


def _missing(where: str, verb: str, unique_id: str) -> Problem:
    what = f"{verb} {unique_id!r}, which is not in the manifest"
    return Problem(where, what, f"Run `{_PREPARE}` to write the manifest again.")


def too_deep() -> Problem:
    """Describe a manifest in which values are nested deeper than JSON can be written."""
    return Problem("", "is nested too deeply", f"Flatten `meta` and `config` of the project, then run `{_PREPARE}`.")


@cache
def _adapter() -> TypeAdapter[ManifestShape]:
    return TypeAdapter(ManifestShape)


def _each_once(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what stands in ``config.meta`` and in ``meta``, where dbt writes it a second time."""
    places = {details["loc"] for details in errors}
    repeated = (("config", "meta"), ("meta",))
    return [
        details
        for details in errors
        if details["loc"][2:4] != repeated[0] or (*details["loc"][:2], *repeated[1], *details["loc"][4:]) not in places
    ]


def _problem(details: ErrorDetails, content: object) -> Problem:
    location = details["loc"]
    found = f", not {json_type_of(details['input'])}" if details["type"] != "missing" else ""
    said = f"is no dbt manifest: {refusal(details)}{found}" if not location else f"{refusal(details)}{found}"
    file = _file(location, content)
    where = ".".join(map(str, location))
    field, inside = location[_DEPTH_OF_NODE : _DEPTH_OF_NODE + 1], location[_DEPTH_OF_NODE + 1 :]
    if file and (found or inside) and _AUTHORED.issuperset(field):
        return Problem(where, said, f"Correct it in {file}, then run `{_PREPARE}`.")
    return Problem(where, f"{said} (of {file})" if file else said, f"Run `{_PREPARE}` to write the manifest again.")


_DEPTH_OF_NODE = 2


def _file(location: tuple[int | str, ...], content: object) -> str:
    """Name the file that a node is described in; empty for what is not part of a node."""
    found = content
    for part in location[:_DEPTH_OF_NODE]:
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict) or len(location) < _DEPTH_OF_NODE:
        return ""
    files = (found.get("patch_path"), found.get("original_file_path"))
    named = next((file for file in files if isinstance(file, str) and file), "")
    return named.rpartition("://")[2]
