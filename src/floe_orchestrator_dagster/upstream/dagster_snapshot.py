"""Shorter text of the repository snapshot that a code server sends to the webserver and the daemon.

For each asset, check and dependency, Dagster sends all fields, also those that are None or empty. The reader's
constructors have these values as defaults, so that the fields can be omitted: Dagster's serializers have an option for
it. Dagster also writes a space behind each comma and colon. Only processes that serve definitions need this. Objects in
Dagster's storage and the identifiers of jobs stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sized
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches
from floe_orchestrator_dagster.upstream.dagster_serialization import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Serialize = Callable[..., str]
    Omissions = tuple[frozenset[str], frozenset[str]]

_SERVER = "dagster._grpc.server"
_SNAPSHOTS, _METADATA = "dagster._core.remote_representation.external_data", "dagster._core.definitions.metadata"
_SERDES = "dagster_shared.serdes.serdes"
_KEY = dg.AssetKey("a")
# Classes whose fields are omitted, with their required fields. Dagster before 1.13 also requires ``child_edges``.
_REQUIRED: Mapping[str, Mapping[str, object]] = {
    "AssetNodeSnap": {"asset_key": _KEY, "parent_edges": [], "child_edges": []},
    "AssetCheckNodeSnap": {"name": "a", "asset_key": _KEY, "description": None},
    "AssetParentEdgeSnap": {"parent_asset_key": _KEY},
}
_REFERENCES = "code_references"
_OPTIONS = ("skip_when_none_fields", "skip_when_empty_fields", "field_serializers", "object_as_mapping")


def find_problem() -> str | None:
    """Return the reason why nothing can be omitted; None when it can."""
    snapshots, metadata, serdes = (import_module(name) for name in (_SNAPSHOTS, _METADATA, _SERDES))
    for name in _REQUIRED:
        serializer = _serializer(name)
        if serializer is None or not all(hasattr(serializer, option) for option in _OPTIONS):
            return f"the serializer of {name} has no {', '.join(_OPTIONS)}"
        try:
            _omissions(serializer, _REQUIRED[name])
        except (TypeError, ValueError, dg.DagsterError) as error:
            return f"{name} cannot be created: {error}"
    own = getattr(metadata, "MetadataFieldSerializer", None)
    if own is None or not isinstance(_serializer("AssetNodeSnap").field_serializers.get("metadata"), own):
        return "the metadata of AssetNodeSnap has another serializer"
    if not any(one.kind is Parameter.VAR_KEYWORD for one in signature(serdes.serialize_value).parameters.values()):
        return "serialize_value has no options of JSON"
    return None if hasattr(snapshots, "RepositorySnap") else f"{_SNAPSHOTS} has no RepositorySnap"


def shorten_snapshot() -> None:
    """Omit the fields in this process, if it serves definitions. Without effect when the patch is not active."""
    server: Any = sys.modules.get(_SERVER)
    if server is None or hasattr(server.serialize_value, "__wrapped__") or not patches.is_active(patches.SNAPSHOT):
        return
    for name, required in _REQUIRED.items():
        serializer = _serializer(name)
        none, empty = _omissions(serializer, required)
        serializer.skip_when_none_fields = {*serializer.skip_when_none_fields, *none}
        serializer.skip_when_empty_fields = {*serializer.skip_when_empty_fields, *empty}
    node = _serializer("AssetNodeSnap")
    node.field_serializers = {**node.field_serializers, "metadata": _entries(node.field_serializers["metadata"])}
    shorten(node.klass, _remove_defaults)
    server.serialize_value = _compact(server.serialize_value)


def _remove_defaults(node: dict[str, Any]) -> None:
    """Remove fields of an asset that the reader's constructor sets, and that are neither None nor empty."""
    if node.get("op_names") == [node.get("op_name")]:
        del node["op_names"]
    for name in ("is_observable", "is_virtual"):
        if node.get(name) is False:
            del node[name]


def _serializer(name: str) -> Any:  # noqa: ANN401  # Dagster's type
    """Return the serializer of a class, by the name of the class."""
    return import_module(_SERDES)._WHITELIST_MAP.object_serializers.get(name)  # noqa: SLF001  # of the registered classes


def _omissions(serializer: Any, required: Mapping[str, object]) -> Omissions:  # noqa: ANN401  # Dagster's type
    """Return the fields that the constructor sets to None if they are missing, and those that it sets to empty ones."""
    known = {*serializer.constructor_param_names}
    made = serializer.klass(**{name: value for name, value in required.items() if name in known})
    defaults = {name: value for name, value in serializer.object_as_mapping(made).items() if name not in required}
    return (
        frozenset(name for name, value in defaults.items() if value is None),
        frozenset(name for name, value in defaults.items() if isinstance(value, Sized) and not value),
    )


def _entries(own: Any) -> object:  # noqa: ANN401  # Dagster's type
    """Return a serializer of an asset's metadata that omits what is None in entries and in their links to files."""

    class Entries(type(own)):  # type: ignore[misc]  # Dagster's type
        def pack(self, *args: object, **kwargs: object) -> list[dict[str, Any]]:
            return [_short_entry(entry) for entry in super().pack(*args, **kwargs)]

    return Entries()


def _short_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a packed entry without a description, and without the missing lines and labels of its links."""
    short, data = _without_none(entry), entry.get("entry_data")
    if isinstance(data, dict) and _REFERENCES in data:
        short["entry_data"] = {**data, _REFERENCES: [_without_none(link) for link in data[_REFERENCES]]}
    return short


def _without_none(packed: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in packed.items() if value is not None}


def _compact(serialize: Serialize) -> Serialize:
    """Return a replacement of the server's function that writes snapshots of repositories without spaces."""
    snapshot: type = import_module(_SNAPSHOTS).RepositorySnap

    @wraps(serialize)
    def serialize_value(val: object, *args: object, **kwargs: object) -> str:
        compact = {"separators": (",", ":")} if isinstance(val, snapshot) else {}
        return serialize(val, *args, **compact, **kwargs)

    return serialize_value
