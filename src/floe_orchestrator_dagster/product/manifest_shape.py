"""Types of the fields in dbt's manifest that this package, dagster-dbt and dbt's node selection read.

Other keys are accepted, and so is null for a value that is not set. A manifest is checked when it is parsed; its
trimmed copy is not checked again. dbt describes all fields: https://docs.getdbt.com/reference/artifacts/manifest-json
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.wording import json_type_of, validation_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    Location = tuple[int | str, ...]

_PREPARE = "floe-dagster prepare"
_WRITE_AGAIN = f"Run `{_PREPARE}` to write the manifest again."
_MOST_SHOWN = 20
# Collections whose members other nodes can depend on.
_COLLECTIONS = (
    "nodes",
    "sources",
    "functions",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
)
# Fields of a node that its author writes; dbt generates the others.
_AUTHORED = frozenset({"columns", "config", "description", "meta", "tags"})
# Length of the location of a node: its collection and its unique id.
_NODE_LOCATION = 2


def _strings(value: object) -> object:
    if value is None or isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise ValueError("must be a string or a list of strings")


Strings = Annotated[Any, AfterValidator(_strings)]


class DagsterRef(TypedDict):
    """The model that shows a test as its check, ``meta.dagster.ref``."""

    name: str
    package: NotRequired[str | None]
    version: NotRequired[Any]


class DagsterMeta(TypedDict):
    """Fields of ``meta.dagster`` that dagster-dbt reads."""

    asset_key: NotRequired[Strings]
    group: NotRequired[str | None]
    owners: NotRequired[Any]  # `assets/owners.py` checks each owner
    auto_materialize_policy: NotRequired[dict[str, Any]]
    ref: NotRequired[DagsterRef | None]


class Meta(TypedDict):
    """A node's ``meta``: any keys, of which only ``dagster`` and ``description`` are read."""

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
    """A column's description. Tags may have any type: dbt accepts that in a column's ``config``."""

    name: NotRequired[str]
    data_type: NotRequired[str | None]
    description: NotRequired[str | None]
    tags: NotRequired[list[Any] | None]


class DependsOn(TypedDict):
    """The nodes and macros that a node depends on."""

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
    """Fields that all members of dbt's graph have."""

    name: str
    resource_type: str
    package_name: str
    fqn: list[str]
    original_file_path: NotRequired[str | None]
    meta: NotRequired[Meta | None]
    tags: NotRequired[Strings]
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
    """The age at which data is too old."""

    count: NotRequired[int | None]
    period: NotRequired[str | None]


class Freshness(TypedDict):
    """The freshness limits of a source."""

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
    """The owner of a group."""

    email: NotRequired[Strings]


class Group(TypedDict):
    """A group of models."""

    name: str
    owner: NotRequired[Owner]


class Metadata(TypedDict):
    """The manifest's metadata about the project."""

    project_name: NotRequired[str | None]
    adapter_type: NotRequired[str | None]


class ManifestShape(TypedDict):
    """The collections of a manifest that are read."""

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


def add_configs(content: object) -> None:
    """Add an empty configuration to the on-run hooks of a manifest by dbt v2, which leaves it out."""
    nodes = content.get("nodes") if isinstance(content, dict) else None
    for node in nodes.values() if isinstance(nodes, dict) else ():
        if isinstance(node, dict) and node.get("resource_type") == "operation":
            node.setdefault("config", {})


def checked_shape(content: object, path: Path) -> Mapping[str, Any]:
    """Return the content of a manifest file after a check of its types.

    Raises:
        ManifestError: Some fields are missing or have the wrong type. The message lists the first twenty, each with
            its place and the file of its node.
    """
    try:
        _adapter().validate_python(content)
    except ValidationError as error:
        details = _without_duplicates(error.errors(include_url=False))
        problems = [_problem(found, content) for found in details[:_MOST_SHOWN]]
        if len(details) > _MOST_SHOWN:
            rest = f"and {len(details) - _MOST_SHOWN} more of this kind"
            problems.append(Problem("", rest, f"Run `{_PREPARE}` once these are corrected."))
        raise ManifestError(str(path), problems) from None
    manifest = cast("Mapping[str, Any]", content)
    missing = [*_missing_aliases(manifest), *_missing_parents(manifest)] or [*_missing_relatives(manifest)]
    if missing:
        raise ManifestError(str(path), missing[:_MOST_SHOWN])
    return manifest


def _missing_aliases(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """Find versions of models without an alias, which is the name of a version in Dagster and in floe."""
    for unique_id, node in manifest["nodes"].items():
        if node.get("version") and not isinstance(node.get("alias"), str):
            yield Problem(f"nodes.{unique_id}.alias", "is missing, and the model has a version", _WRITE_AGAIN)


def _missing_parents(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """Find nodes that other nodes read and the manifest lacks. dagster-dbt cannot compute asset keys of these."""
    known = _known(manifest)
    for unique_id, node in manifest["nodes"].items():
        for parent in (node.get("depends_on") or {}).get("nodes") or ():
            if parent not in known:
                yield _missing(f"nodes.{unique_id}.depends_on.nodes", "reads", parent)


def _missing_relatives(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """Find nodes that ``parent_map`` or ``child_map`` names and the manifest lacks."""
    known = _known(manifest)
    for name in ("parent_map", "child_map"):
        for unique_id, relatives in manifest[name].items():
            for relative in (unique_id, *relatives):
                if relative not in known:
                    yield _missing(f"{name}.{unique_id}", "names", relative)


def _known(manifest: Mapping[str, Any]) -> set[str]:
    return {unique_id for collection in _COLLECTIONS for unique_id in manifest.get(collection) or ()}


def _missing(where: str, verb: str, unique_id: str) -> Problem:
    return Problem(where, f"{verb} {unique_id!r}, which is not in the manifest", _WRITE_AGAIN)


def too_deep() -> Problem:
    """Return the problem of a manifest with values that are nested too deeply to be written as JSON."""
    return Problem("", "is nested too deeply", f"Flatten `meta` and `config` of the project, then run `{_PREPARE}`.")


@cache
def _adapter() -> TypeAdapter[ManifestShape]:
    return TypeAdapter(ManifestShape)


def _without_duplicates(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Report an error in ``meta`` once. dbt writes the same value to ``config.meta`` and to ``meta``."""
    locations = {details["loc"] for details in errors}
    return [details for details in errors if _without_config(details["loc"]) not in locations]


def _without_config(location: Location) -> Location | None:
    """Return the location in ``meta`` that repeats a location in ``config.meta``; None for other locations."""
    node, field = location[:_NODE_LOCATION], location[_NODE_LOCATION:]
    return (*node, *field[1:]) if field[:2] == ("config", "meta") else None


def _problem(details: ErrorDetails, content: object) -> Problem:
    location, is_missing = details["loc"], details["type"] == "missing"
    message = validation_message(details)
    if not is_missing:
        message = f"{message}, not {json_type_of(details['input'])}"
    if not location:
        message = f"is not a dbt manifest: {message}"
    where, file = ".".join(map(str, location)), _file(location, content)
    field, inside = location[_NODE_LOCATION : _NODE_LOCATION + 1], location[_NODE_LOCATION + 1 :]
    # dbt writes these fields even if a file leaves them out. Only their values can be an author's mistake.
    if file and _AUTHORED.issuperset(field) and (inside or not is_missing):
        return Problem(where, message, f"Correct it in {file}, then run `{_PREPARE}`.")
    return Problem(where, f"{message} (of {file})" if file else message, _WRITE_AGAIN)


def _file(location: Location, content: object) -> str:
    """Return the file that describes the node of a location; empty for a location outside of nodes."""
    found = content
    for part in location[:_NODE_LOCATION]:
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict) or len(location) < _NODE_LOCATION:
        return ""
    files = (found.get("patch_path"), found.get("original_file_path"))
    named = next((file for file in files if isinstance(file, str) and file), "")
    return named.rpartition("://")[2]
