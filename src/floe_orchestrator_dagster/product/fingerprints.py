"""Fingerprints of models, seeds and snapshots: hashes of everything in a dbt project that determines their rows.

A fingerprint changes with the code, the macros that it can call, the ephemeral models and functions that it reads, the
settings that change the table, and the versions of dbt and the adapter. It does not change with comments, descriptions,
tags or owners. Where that is not certain, it changes. Data, values of variables and the table's name do not change it.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.macros import ProjectMacros
from floe_orchestrator_dagster.product.references import function_version, functions_called
from floe_orchestrator_dagster.product.sql_text import significant_sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

FINGERPRINT_FORMAT = 1
"""Version of the algorithm. A change gives each node another fingerprint."""

_BUILT = frozenset({"model", "seed", "snapshot"})
# Fields that describe a table. They change it only if code reads them.
_DESCRIBING = ("access", "docs", "group", "meta", "tags", "description", "columns")
# Code that may read all of these fields: `model` or `config` as a whole.
_READS_ALL = re.compile(r"\bmodel\b(?!\s*[.\[])|\bmodel\.config\b(?!\s*[.\[])|\bconfig\b(?!\s*[.(\[=])")
_READS = re.compile(rf"""\.({"|".join(_DESCRIBING)})|["']({"|".join(_DESCRIBING)})["']""")
# Without one of these words, code has no access to its node.
_ACCESS = ("model", "config", "context", "graph")
_DEFINING_COLUMN_FIELDS = ("name", "data_type", "constraints")


def fingerprints(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Compute the fingerprint of each model, seed and snapshot, by unique id.

    Args:
        manifest: The content of a dbt manifest, with code and macros.
    """
    project = _Project(manifest)
    return {
        unique_id: project.fingerprint(unique_id)
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in _BUILT
    }


class _Project:
    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._manifest, self._nodes = manifest, manifest["nodes"]
        self._macros = ProjectMacros(manifest)
        self._macro = {key: _digest(code) for key, code in self._macros.code.items()}
        self._read_by_macro = cache(lambda key: _read_by(self._macros.code[key]))
        self._functions = {key: function_version(node) for key, node in (manifest.get("functions") or {}).items()}
        self._own: dict[str, str] = {}
        metadata = manifest["metadata"]
        hooks = sorted(
            (key, node.get("raw_code") or "")
            for key, node in self._nodes.items()
            if node["resource_type"] == "operation"
        )
        self._common = _digest(
            [
                FINGERPRINT_FORMAT,
                str(metadata.get("dbt_version")).split(".")[:2],
                metadata.get("adapter_type"),
                hooks,
                self._with_code(self._macros.reached(code for _, code in hooks)),
            ]
        )

    def fingerprint(self, unique_id: str) -> str:
        """Compute a node's fingerprint from its own parts and those of the ephemeral models that it reads."""
        whole = [unique_id, *sorted(self._inlined(unique_id))]
        called = sorted(functions_called(self._manifest, unique_id))
        functions = [(function, self._functions[function]) for function in called]
        return _digest([self._common, [(key, self._digest_of(key)) for key in whole], functions])

    def _inlined(self, unique_id: str) -> set[str]:
        """Find the ephemeral models whose code becomes a part of the node's code."""
        found: set[str] = set()
        waiting = [unique_id]
        while waiting:
            for parent in _parents(self._nodes[waiting.pop()]):
                node = self._nodes.get(parent)
                if node and parent not in found and node["config"].get("materialized") == "ephemeral":
                    found.add(parent)
                    waiting.append(parent)
        return found

    def _digest_of(self, unique_id: str) -> str:
        if unique_id not in self._own:
            self._own[unique_id] = _digest(self._parts(self._nodes[unique_id]))
        return self._own[unique_id]

    def _parts(self, node: Mapping[str, Any]) -> list[Any]:
        """Return a node's own part of the fingerprint."""
        config, code = node["config"], node.get("raw_code") or ""
        settings = json.dumps([config, node.get("unrendered_config")], default=str)
        macros = self._macros.reached((code, settings))
        read = _read_by(code).union(*map(self._read_by_macro, macros))
        return [
            significant_sql(code) if (node.get("language") or "sql") == "sql" else code,
            None if code else node.get("checksum"),
            {name: value for name, value in config.items() if name not in _DESCRIBING or name in read},
            _described(node, read),
            sorted(_parents(node)),
            self._with_code(macros),
        ]

    def _with_code(self, macros: Iterable[str]) -> list[tuple[str, str]]:
        return [(macro, self._macro[macro]) for macro in macros]


def _parents(node: Mapping[str, Any]) -> Sequence[str]:
    return (node.get("depends_on") or {}).get("nodes") or ()


def _read_by(code: str) -> frozenset[str]:
    """Return which of a node's describing fields a piece of code may read."""
    if not any(word in code for word in _ACCESS):
        return frozenset()
    if "context" in code or _READS_ALL.search(code):
        return frozenset(_DESCRIBING)
    return frozenset(name for found in _READS.findall(code) for name in found if name)


def _described(node: Mapping[str, Any], read: AbstractSet[str]) -> list[Any]:
    """Return the descriptions and columns of a node that change its table, or that code reads."""
    persisted, columns = node["config"].get("persist_docs") or {}, list((node.get("columns") or {}).values())
    is_enforced = (node["config"].get("contract") or {}).get("enforced")
    return [
        node.get("description") if persisted.get("relation") or "description" in read else None,
        [column.get("description") for column in columns] if persisted.get("columns") else None,
        [[column.get(field) for field in _DEFINING_COLUMN_FIELDS] for column in columns] if is_enforced else None,
        columns if "columns" in read else None,
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
