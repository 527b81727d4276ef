"""Variables and user-defined functions (UDFs) that the nodes of a dbt project use.

dbt-core has functions since 1.11: https://docs.getdbt.com/docs/build/udfs
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


# `var('name')` in SQL and YAML. A Python model uses `config.get('name')`, whose value may come from a variable.
_READ = re.compile(r"""\b(?:var|config\.get)\(\s*["'](\w+)["']""")
# The fields and settings in the statement that creates a function.
DEFINING_FIELDS = ("language", "raw_code", "arguments", "returns")
# The fields of each further signature (dbt-core 1.12), without `compiled_body`, which differs between parsed and built
# manifests.
DEFINING_OVERLOAD_FIELDS = ("arguments", "returns", "raw_body")
DEFINING_SETTINGS = ("type", "volatility", "runtime_version", "entry_point", "packages")


def variables_read(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """List the variables that models, snapshots and data tests read, by unique id; nodes without any are left out.

    The variables of a test's configuration, such as ``where``, are unknown: dbt renders it when it parses.

    Args:
        manifest: The content of a dbt manifest, with code and macros.
    """
    macros = manifest.get("macros") or {}
    # Without a limit: dbt itself has more than 600 macros, and most models call several hundred of them indirectly.
    of_macro = cache(partial(_of_macro_and_called, macros, cache(partial(_of_macro, macros))))
    found = {}
    for unique_id, node in manifest["nodes"].items():
        if node.get("raw_code") and node["resource_type"] in {"model", "snapshot", "test"}:
            arguments = (node.get("test_metadata") or {}).get("kwargs")
            texts = [node["raw_code"], *texts_in(node.get("unrendered_config")), *texts_in(arguments)]
            names = frozenset[str]().union(*map(_named, texts), *map(of_macro, _called(node)))
            if names:
                found[unique_id] = sorted(names)
    return found


def texts_in(value: object) -> Iterator[str]:
    """Return the texts in a setting. Each may be a template, such as a hook."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)


def _of_macro_and_called(
    macros: Mapping[str, Any], of_macro: Callable[[str], frozenset[str]], unique_id: str
) -> frozenset[str]:
    """Collect the variables of a macro and of all macros that it calls, directly or indirectly."""
    reached: set[str] = set()
    waiting = {unique_id}
    while waiting:
        macro = waiting.pop()
        reached.add(macro)
        waiting |= _called(macros.get(macro, {})) - reached
    return frozenset[str]().union(*map(of_macro, reached))


def _of_macro(macros: Mapping[str, Any], unique_id: str) -> frozenset[str]:
    return _named(macros.get(unique_id, {}).get("macro_sql") or "")


def _called(caller: Mapping[str, Any]) -> frozenset[str]:
    return frozenset((caller.get("depends_on") or {}).get("macros") or ())


def _named(code: str) -> frozenset[str]:
    return frozenset(_READ.findall(code))


def functions_called(manifest: Mapping[str, Any], unique_id: str) -> frozenset[str]:
    """Find the functions that must exist before a node runs, including those that other functions call.

    Calls of an ephemeral model count for the nodes that read it. Calls of a model count for its unit tests.

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
    """Find the functions that each node calls, by unique id; nodes without calls are left out."""
    if not manifest.get("functions"):
        return {}
    found = {unique_id: functions_called(manifest, unique_id) for unique_id in unique_ids}
    return {unique_id: functions for unique_id, functions in found.items() if functions}


def uncalled_functions(manifest: Mapping[str, Any], unique_ids: Iterable[str]) -> frozenset[str]:
    """Find the functions that none of these nodes calls. Only a run of the whole project builds them."""
    return frozenset(manifest.get("functions") or ()).difference(*called_functions(manifest, unique_ids).values())


def function_version(function: Mapping[str, Any]) -> str:
    """Compute the SHA-1 of a function's definition: code, arguments, result type, overloads and creation settings."""
    config = function.get("config") or {}
    overloads = function.get("overloads") or ()
    defined = [
        *(function.get(field) for field in DEFINING_FIELDS),
        *(config.get(setting) for setting in DEFINING_SETTINGS),
        *([overload.get(field) for field in DEFINING_OVERLOAD_FIELDS] for overload in overloads),
    ]
    return _digest(json.dumps(defined, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
