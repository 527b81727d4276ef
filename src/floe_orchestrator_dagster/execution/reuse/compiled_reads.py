"""Tables that the compiled SQL of a dbt node reads, and that are not among its ``ref`` and ``source``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.reuse.source_files import is_file
from floe_orchestrator_dagster.product.fingerprints import is_declared_reusable
from floe_orchestrator_dagster.product.unnamed_reads import UNCERTAIN, read_unnamed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Starts of templates. Compiled SQL only has them in string literals.
_TEMPLATES = ("{{", "{%", "{#")
_KNOWN = "{{ ref('') }}"
MISSING = "was not found"
"""Doubt about a model of which dbt has written no compiled SQL."""


def compiled_read(content: Mapping[str, Any], node: Mapping[str, Any], codes: Sequence[str]) -> str | None:
    """Return the first table that compiled SQL reads and dbt does not know, or a doubt; None without one.

    The templates of a node are read before it is built (:mod:`unnamed_reads`). Its compiled SQL shows what they have
    printed.

    Args:
        content: The manifest of the run, with the names of its tables.
        node: The node.
        codes: Its compiled SQL: a query, or one for each batch. dbt writes none for seeds.
    """
    if (node.get("language") or "sql") != "sql" or is_declared_reusable(node):
        return None
    relations = _relations(content, node)
    if relations is None:
        return None
    if not codes and node["resource_type"] == "model":
        return MISSING
    return next((found for code in codes if (found := _read(code, relations))), None)


def _read(code: str, relations: set[str]) -> str | None:
    """Return the first table that a query reads besides those with the names, or a doubt."""
    if any(mark in code for mark in _TEMPLATES):
        return UNCERTAIN
    for relation in sorted(relations, key=len, reverse=True):
        code = code.replace(relation, _KNOWN)
    found = read_unnamed(code)
    return found.replace("{}", "a ref") if found else None


def _relations(content: Mapping[str, Any], node: Mapping[str, Any]) -> set[str] | None:
    """Return the names of tables that a node reads, directly and through ephemeral models; None for files of DuckDB."""
    found = {node.get("relation_name")}
    waiting, seen = [*_parents(node)], set()
    while waiting:
        key = waiting.pop()
        parent = content["nodes"].get(key) or content["sources"].get(key) or {}
        if key in seen:
            continue
        seen.add(key)
        found.add(parent.get("relation_name"))
        if key in content["sources"] and is_file(parent):
            return None
        if (parent.get("config") or {}).get("materialized") == "ephemeral":
            waiting += _parents(parent)
    return {name for name in found if name}


def _parents(node: Mapping[str, Any]) -> list[str]:
    return list((node.get("depends_on") or {}).get("nodes") or ())
