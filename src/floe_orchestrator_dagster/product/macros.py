"""Macros of a dbt project that a piece of code can call, directly or through other macros.

dbt's manifest lists the macros that are called by their name. A macro can also be passed as a value, be chosen by
``adapter.dispatch``, or replace one of dbt's own. Therefore each macro whose name occurs in a template of the code
counts as called.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.code_templates import templates_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORD = re.compile(r"\w+")
# Adapters that extend another one, and the package with the macros of the other one.
_EXTENDED = {"redshift": "dbt_postgres", "databricks": "dbt_spark"}
# Macros of dbt that can add, remove or change rows between the query of a node and its table.
_BUILDING_TABLES = (
    *("create_table_as", "create_view_as", "get_create_table_as_sql", "get_create_view_as_sql", "get_select_subquery"),
    *("get_merge_sql", "get_delete_insert_merge_sql", "get_insert_overwrite_merge_sql", "get_insert_into_sql"),
    *("get_incremental_append_sql", "get_incremental_delete_insert_sql", "get_incremental_merge_sql"),
    *("get_incremental_insert_overwrite_sql", "get_incremental_default_sql", "get_incremental_microbatch_sql"),
    *("load_csv_rows", "create_csv_table", "reset_csv_table", "get_csv_sql", "should_full_refresh"),
    *("sync_column_schemas", "process_schema_changes", "alter_relation_add_remove_columns"),
)
_OF_TESTS = ("get_where_subquery", "get_test_sql", "get_unit_test_sql")
_LITERAL = r"""(?:'[^'\\]*'|"[^"\\]*")"""
# A call of `adapter.dispatch` with the name of a macro.
_DISPATCH = re.compile(rf"\bdispatch\s*\(\s*(?:macro_name\s*=\s*)?{_LITERAL}\s*[,)]")


# Methods of a dictionary.
_METHODS = "get|items|keys|values|pop|copy"


class ProjectMacros:
    """The macros of a project and of its packages.

    Macros of dbt and its adapter are left out, because they only change with the versions of dbt and the adapter.

    Attributes:
        code: The code of each macro, by unique id.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        """Index the macros by name.

        Args:
            manifest: The content of a dbt manifest, with macros.
        """
        macros: Mapping[str, Mapping[str, Any]] = manifest.get("macros") or {}
        adapter = str(manifest["metadata"].get("adapter_type"))
        of_dbt = {"dbt", f"dbt_{adapter}", _EXTENDED.get(adapter)}
        self.code = {
            unique_id: str(macro.get("macro_sql") or "")
            for unique_id, macro in macros.items()
            if macro.get("package_name") not in of_dbt
        }
        self._named: dict[str, set[str]] = {}
        for unique_id in self.code:
            for name in _names(macros[unique_id]):
                self._named.setdefault(name, set()).add(unique_id)
        self._replacing = self._replacing_those_of_dbt(macros)
        packages = sorted({"dbt", *(str(macro.get("package_name")) for macro in macros.values())})
        # Access to macros by a name that the code computes, such as `context[name]` or `package[name]`.
        self._computed = re.compile(
            r"\bcontext\s*[\[.]|\bbuiltins\b|\battr\b|\brender\b|\bdispatch\b"
            rf"|\b(?:{'|'.join(map(re.escape, packages))})\s*(?:[\[|,)%}}]|\.\s*(?:{_METHODS})\b)"
        )
        self._computing_words = {"context", "builtins", "attr", "dispatch", "render", *packages}
        self._listed = {
            unique_id: (macro.get("depends_on") or {}).get("macros") or () for unique_id, macro in macros.items()
        }
        # Without a limit: most nodes of a large project call the same hundreds of macros, and have the same settings.
        self._called = cache(self._named_in)
        self._called_by = cache(self._called_by_macro)
        self._with_called = cache(self._closure)
        self._digest = cache(self._digest_of)

    def reached(self, code: Iterable[str], listed: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the sorted unique ids of all macros that can run when a node with these pieces of code is built.

        Macros that replace one of dbt are always among them.

        Args:
            code: The pieces of code.
            listed: The macros that dbt's manifest lists as called by the node.
        """
        return self._with_called(self._called_directly(code, listed) | self._replacing)

    def called(self, code: Iterable[str], listed: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the sorted unique ids of all macros that pieces of code can call. Arguments as for :meth:`reached`.

        Macros that replace one of dbt are among them only if the code can call them.
        """
        return self._with_called(self._called_directly(code, listed))

    def digest(self, macros: tuple[str, ...]) -> str:
        """Return a digest of the code of macros, the result of :meth:`reached` or :meth:`called`."""
        return self._digest(macros)

    def of_strategy(self, config: Mapping[str, Any]) -> list[str]:
        """Return the macros of an incremental strategy of the project, whose name dbt builds from the setting."""
        strategy = str(config.get("incremental_strategy")).replace("+", "_")
        return sorted(self._named.get(f"get_incremental_{strategy}_sql", ()))

    def building_tables(self) -> list[str]:
        """Return the macros with which dbt creates and fills tables, as far as the project replaces them."""
        return sorted(key for name in _BUILDING_TABLES for key in self._named.get(name, ()))

    def replacing(self) -> list[str]:
        """Return the macros that replace macros of dbt, and the project's materializations."""
        return sorted(self._replacing)

    def of_tests(self) -> list[str]:
        """Return the macros with which dbt runs tests, as far as the project replaces them."""
        return sorted(key for name in _OF_TESTS for key in self._named.get(name, ()))

    def materializes(self, materialization: str) -> bool:
        """Return whether the project or one of its packages defines this materialization."""
        return any(name.startswith(f"materialization_{materialization}_") for name in self._named)

    def _replacing_those_of_dbt(self, macros: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
        """Find the macros that dbt calls in place of a macro of dbt, and materializations."""
        replaceable = {name for key, macro in macros.items() if key not in self.code for name in _names(macro)}
        return frozenset(
            unique_id
            for name, found in self._named.items()
            if name in replaceable or name.startswith("materialization_")
            for unique_id in found
        )

    def _called_directly(self, code: Iterable[str], listed: Iterable[str]) -> frozenset[str]:
        return frozenset[str]().union(*map(self._called, code), self.code.keys() & set(listed))

    def computes_names(self, code: str) -> bool:
        """Return whether code may call macros by names that it computes."""
        templates = " ".join(templates_in(code))
        has_words = not self._computing_words.isdisjoint(_WORD.findall(templates))
        return has_words and self._computed.search(_DISPATCH.sub("", templates)) is not None

    def _named_in(self, code: str) -> frozenset[str]:
        """Return the macros whose name occurs in the templates of code; all macros when they can compute names."""
        if not self.code:
            return frozenset()
        if self.computes_names(code):
            return frozenset(self.code)
        words = set(_WORD.findall(" ".join(templates_in(code))))
        return frozenset().union(*(self._named[word] for word in words & self._named.keys()))

    def _called_by_macro(self, unique_id: str) -> frozenset[str]:
        return self._called(self.code[unique_id]) | (self.code.keys() & set(self._listed[unique_id]))

    def _digest_of(self, macros: tuple[str, ...]) -> str:
        code = [(macro, self.code[macro]) for macro in macros]
        return hashlib.sha256(json.dumps(code).encode()).hexdigest()

    def _closure(self, first: frozenset[str]) -> tuple[str, ...]:
        """Return macros with all macros that they call, directly or through others."""
        found: set[str] = set()
        waiting = set(first)
        while waiting:
            macro = waiting.pop()
            found.add(macro)
            waiting |= self._called_by(macro) - found
        return tuple(sorted(found))


def _names(macro: Mapping[str, Any]) -> set[str]:
    """Return the names under which a macro can be called: ``default__name`` is one of the macros of ``name``."""
    name = str(macro.get("name"))
    return {name, name.partition("__")[2] or name}
