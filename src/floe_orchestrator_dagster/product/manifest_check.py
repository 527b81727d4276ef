"""Check of a dbt manifest: types of its fields, and nodes that others depend on.

A manifest is checked when it is parsed; its trimmed copy is not checked again.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter, ValidationError

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.product.manifest_shape import ManifestShape
from floe_orchestrator_dagster.wording import json_type_of, validation_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    Location = tuple[int | str, ...]

_PREPARE = "floe-dagster prepare"
_WRITE_AGAIN = f"Run `{_PREPARE}` to write the manifest again."
_MOST_TEXT = 40
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


def add_configs(content: object) -> None:
    """Add an empty configuration to the on-run hooks of a manifest by dbt v2, which leaves it out."""
    nodes = content.get("nodes") if isinstance(content, dict) else None
    for node in nodes.values() if isinstance(nodes, dict) else ():
        if isinstance(node, dict) and node.get("resource_type") == "operation":
            node.setdefault("config", {})


def checked_shape(content: object, path: Path) -> Mapping[str, Any]:
    """Return the content of a manifest file after the check.

    Raises:
        ManifestError: Fields are missing or have the wrong type, or a node depends on one that the manifest lacks. The
            message lists the first twenty, each with its place and the file of its node.
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


def _given(details: ErrorDetails) -> str:
    """Return the text that is not one of the accepted ones, or the type of another value."""
    given = details["input"]
    is_text = details["type"] == "literal_error" and isinstance(given, str)
    return repr(given[:_MOST_TEXT]) if is_text else json_type_of(given)


def _problem(details: ErrorDetails, content: object) -> Problem:
    location, is_missing = details["loc"], details["type"] == "missing"
    message = validation_message(details)
    if not is_missing:
        message = f"{message}, not {_given(details)}"
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
