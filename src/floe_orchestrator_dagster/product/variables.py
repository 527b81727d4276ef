"""Names of the dbt variables that models read, found in their code, their configuration and the macros they call."""

from __future__ import annotations

import json
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# `var('name')` in SQL and YAML. A Python model uses `config.get('name')`, whose value may come from a variable.
_READ = re.compile(r"""\b(?:var|config\.get)\(\s*\\?["'](\w+)\\?["']""")


def variables_read(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """List the variables that models and snapshots read, by unique id; nodes without any are left out.

    Args:
        manifest: The content of a dbt manifest, with code and macros.
    """
    macros = manifest.get("macros") or {}
    # Without a limit: dbt itself has more than 600 macros, and most models call several hundred of them indirectly.
    of_macro = cache(partial(_of_macro_and_called, macros, cache(partial(_of_macro, macros))))
    found = {}
    for unique_id, node in manifest["nodes"].items():
        if node.get("raw_code") and node["resource_type"] in {"model", "snapshot"}:
            names = _named(node["raw_code"]) | _named(json.dumps(node.get("unrendered_config") or {}))
            names = names.union(*map(of_macro, _called(node)))
            if names:
                found[unique_id] = sorted(names)
    return found


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
