"""A trimmed manifest with each value that many nodes share there once, on disk and in memory, and columns as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTIONS_OF_NODES = ("nodes", "sources")
# Fields of which many nodes have the same: in the copy, and in memory, each value is there once.
_SHARED_FIELDS = (
    "access",
    "attached_node",
    "column_name",
    "config",
    "database",
    "depends_on",
    "description",
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
# Names that are there several times: in memory, each is there once.
_NAMES = ("name", "alias", "path", "identifier")
FORM = (_SHARED_FIELDS, "columns as text")
"""What tells this form of a manifest from an earlier or later one."""


class _Columns(Mapping[str, Any]):
    """The columns of a node, text until somebody looks at them: of many nodes most processes look at a few."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._read: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        if self._read is None:
            self._read = orjson.loads(self._text)
        return self._read

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # JSON
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def parted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Put the shared values of the nodes beside them, and their rows in that list into the nodes; columns as text."""
    values: list[Any] = []
    rows: dict[bytes, int] = {}
    parted = dict(content)
    for collection in COLLECTIONS_OF_NODES:
        parted[collection] = {key: dict(node) for key, node in content[collection].items()}
        for node in parted[collection].values():
            for field in _SHARED_FIELDS:
                if field in node:
                    row = rows.setdefault(orjson.dumps(node[field]), len(values))
                    values.extend([node[field]] if row == len(values) else [])
                    node[field] = row
            if node.get("columns"):
                node["columns"] = orjson.dumps(node["columns"], default=dict).decode()
    return {"shared": values, "content": parted}


def joined(parted: Mapping[str, Any]) -> dict[str, Any]:
    """Put the shared values back: the nodes have the same objects, as a manifest is never changed."""
    values, content = parted["shared"], parted["content"]
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
    """Keep each name and unique id once, wherever it is; a parser makes a new text of each."""
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
