"""Compact form of a trimmed manifest: values that many nodes share are stored once, and columns as JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTIONS_OF_NODES = ("nodes", "sources")
# Fields with the same value in many nodes. Each distinct value is stored once, in the copy and in memory.
_SHARED_FIELDS = (
    "access",
    "attached_node",
    "column_name",
    "config",
    "database",
    "depends_on",
    "description",
    "floe_reads",
    "language",
    "meta",
    "original_file_path",
    "package_name",
    "patch_path",
    "resource_type",
    "schema",
    "source_name",
    "tags",
    "test_metadata",
    "unrendered_config",
)
# Fields with names that occur several times. Each distinct name is in memory once.
_NAMES = ("name", "alias", "path", "identifier")
FORMAT = (_SHARED_FIELDS, "columns as text")
"""Identifies the version of this form."""


class _Columns(Mapping[str, Any]):
    """The columns of a node, parsed at the first access: most processes read the columns of few nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._read: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        if self._read is None:
            self._read = orjson.loads(self._text)
        return self._read

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # JSON values
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def compact(content: Mapping[str, Any]) -> dict[str, Any]:
    """Move shared values of nodes to a list and put their indices into the nodes; turn columns into JSON text."""
    values: list[Any] = []
    rows: dict[bytes, int] = {}
    compacted = dict(content)
    for collection in COLLECTIONS_OF_NODES:
        compacted[collection] = {key: dict(node) for key, node in content[collection].items()}
        for node in compacted[collection].values():
            for field in _SHARED_FIELDS:
                if field in node:
                    row = rows.setdefault(orjson.dumps(node[field]), len(values))
                    values.extend([node[field]] if row == len(values) else [])
                    node[field] = row
            if node.get("columns"):
                node["columns"] = orjson.dumps(node["columns"], default=dict).decode()
    return {"shared": values, "content": compacted}


def expand(compacted: Mapping[str, Any]) -> dict[str, Any]:
    """Put shared values back into the nodes. Nodes share the same objects, because a manifest is never changed."""
    values, content = compacted["shared"], compacted["content"]
    for collection in COLLECTIONS_OF_NODES:
        for unique_id, node in content[collection].items():
            for field in _SHARED_FIELDS:
                if field in node:
                    node[field] = values[node[field]]
            if node.get("columns"):
                node["columns"] = _Columns(node["columns"])
            node["unique_id"] = unique_id
    _share_names(content)
    return dict(content)


def _share_names(content: dict[str, Any]) -> None:
    """Keep one object per distinct name and unique id; the JSON parser creates a string for each occurrence."""
    known: dict[str, str] = {}
    once = known.setdefault
    for collection in COLLECTIONS_OF_NODES:
        for unique_id, node in content[collection].items():
            once(unique_id, unique_id)
            for field in _NAMES:
                name = node.get(field)
                if name is not None:
                    node[field] = once(name, name)
            node["fqn"] = [once(name, name) for name in node.get("fqn") or ()]
    for relatives in (content["parent_map"], content["child_map"]):
        for unique_id, found in relatives.items():
            relatives[unique_id] = [once(relative, relative) for relative in found]
