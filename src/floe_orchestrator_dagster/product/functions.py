"""Functions of a dbt project (UDFs): which of them a node calls, and the version of their code.

https://docs.getdbt.com/docs/build/udfs; dbt-core has them since 1.11.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The fields, and the settings, that make the statement which creates a function.
DEFINING_FIELDS = ("language", "raw_code", "arguments", "returns")
DEFINING_SETTINGS = ("type", "volatility", "runtime_version", "entry_point", "packages")


def functions_called(manifest: Mapping[str, Any], unique_id: str) -> frozenset[str]:
    """Find the functions that must exist before a node runs, functions called by functions included.

    The code of an ephemeral model is part of the nodes that read it. A unit test runs the code of its model.

    Args:
        manifest: The content of a dbt manifest.
        unique_id: A model, seed, snapshot, data test, unit test or function.
    """
    functions, nodes = manifest.get("functions") or {}, manifest["nodes"]
    if not functions:
        return frozenset()
    parents = manifest["parent_map"]
    found: set[str] = set()
    waiting = list(parents.get(unique_id, ()))
    if unique_id in (manifest.get("unit_tests") or {}):
        waiting = [read for tested in waiting for read in parents.get(tested, ())]
    seen: set[str] = set()
    while waiting:
        parent = waiting.pop()
        if parent in seen:
            continue
        seen.add(parent)
        if parent in functions:
            found.add(parent)
            waiting += parents.get(parent, ())
        elif parent in nodes and nodes[parent]["config"].get("materialized") == "ephemeral":
            waiting += parents.get(parent, ())
    return frozenset(found)


def called_functions(manifest: Mapping[str, Any], unique_ids: Iterable[str]) -> dict[str, frozenset[str]]:
    """Find the functions that nodes call, by the unique id of each node that calls some."""
    if not manifest.get("functions"):
        return {}
    found = {unique_id: functions_called(manifest, unique_id) for unique_id in unique_ids}
    return {unique_id: functions for unique_id, functions in found.items() if functions}


def uncalled_functions(manifest: Mapping[str, Any], unique_ids: Iterable[str]) -> frozenset[str]:
    """Find the functions that none of these nodes calls: only a run of everything builds them."""
    return frozenset(manifest.get("functions") or ()).difference(*called_functions(manifest, unique_ids).values())


def function_version(function: Mapping[str, Any]) -> str:
    """Compute the SHA-1 of what defines a function: its code, its arguments, its result and how it is created."""
    config = function.get("config") or {}
    defined = [
        *(function.get(field) for field in DEFINING_FIELDS),
        *(config.get(setting) for setting in DEFINING_SETTINGS),
    ]
    return _digest(json.dumps(defined, sort_keys=True))


def versions_with_functions(manifest: Mapping[str, Any], versions: Mapping[str, str | None]) -> dict[str, str]:
    """Compute the code versions of the nodes that call functions: one that changes is a change of its callers.

    Args:
        manifest: The content of a dbt manifest, with code.
        versions: The code version of every node, by unique id.

    Returns:
        The versions that differ from ``versions``, by unique id.
    """
    functions = manifest.get("functions") or {}
    own = {unique_id: function_version(function) for unique_id, function in functions.items()}
    return {
        unique_id: _digest("\n".join([str(versions[unique_id]), *(own[function] for function in sorted(called))]))
        for unique_id, called in called_functions(manifest, versions).items()
    }


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
