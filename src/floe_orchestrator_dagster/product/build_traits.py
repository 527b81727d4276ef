"""Nodes of a dbt project that must be built in each run, and versions of tests.

A node must be built in each run if its rows can change although neither its fingerprint nor the tables and sources that
dbt lists as its parents have changed. Where that is not certain, it is built, unless ``meta.dagster.reuse`` says that
its rows only depend on these.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.code_templates import templates_in
from floe_orchestrator_dagster.product.fingerprints import has_disjoint_partitions, is_declared_reusable
from floe_orchestrator_dagster.product.fixed_calls import declares_nothing, has_fixed_calls
from floe_orchestrator_dagster.product.macros import ProjectMacros
from floe_orchestrator_dagster.product.references import texts_in
from floe_orchestrator_dagster.product.unnamed_reads import UNCERTAIN, unnamed_read
from floe_orchestrator_dagster.product.varying_code import VALUES, varying_names, varying_sql, varying_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TRAITS_FORMAT = 4
"""Version of the traits."""
OF_BATCHES = "its rows depend on the time of the run (microbatch)"
"""Why microbatch models are built in each run without a window of time; no other reason applies to them.

Manifests keep the text: a change of it needs another :data:`TRAITS_FORMAT`."""

_BUILT = frozenset({"model", "seed", "snapshot"})
_KNOWN = frozenset({"table", "view", "incremental", "seed", "ephemeral"})
# Settings with SQL that becomes a part of the query.
_SQL_SETTINGS = ("incremental_predicates", "predicates", "partitions", "sql_header")
_TABLE_OF_TEST = frozenset({"model"})
_WORD = re.compile(r"\w+")
_READS_TABLE = re.compile(r"\b(?:from|join|table|pivot|unpivot)\b", re.IGNORECASE)
_THIS = "this"
_VARIABLE = re.compile(r"\bvar\b")
_SETTINGS = ("config", "unrendered_config")
_MICROBATCH = "microbatch"
# Adapters whose microbatch models delete the rows of a batch by their time. Others merge rows by a key.
_DELETE_BATCHES = frozenset({"duckdb"})
# Adapters whose incremental models with a key replace rows by it, with these strategies, of which None is the default.
_REPLACE_ROWS = frozenset({"duckdb", "postgres"})
_REPLACING_STRATEGIES = frozenset({None, "default", "delete+insert", "merge"})
# Values of `on_schema_change` with which earlier rows keep their values.
_KEPT_COLUMNS = frozenset({None, "ignore", "fail", "append_new_columns"})
# Macros of a project in place of those of dbt that only name tables.
_NAMING = frozenset({"generate_alias_name", "generate_database_name", "generate_schema_name"})
_HOOKS = ("pre-hook", "post-hook", "pre_hook", "post_hook")
_TEST_FIELDS = ("raw_code", "test_metadata", "config", "unrendered_config", "checksum", "column_name")
_UNIT_TEST_TEXTS = ("given", "expect", "overrides")
_UNIT_TEST_FIELDS = ("given", "expect", "overrides", "config", "checksum", "model")


@dataclass(frozen=True)
class BuildTraits:
    """Properties of nodes that decide about their reuse.

    Attributes:
        always: Why a model, seed, snapshot or test is built in each run, by unique id. All others can be reused.
        tests: Versions of data tests and unit tests, by unique id.
        partitioned: Models of which a build of one partition leaves the rows of the others, and does not read them.
        varying: Nodes whose inputs or settings may depend on variables. The manifest has those for the default values.
    """

    always: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, str] = field(default_factory=dict)
    partitioned: frozenset[str] = frozenset()
    varying: frozenset[str] = frozenset()


def build_traits(manifest: Mapping[str, Any]) -> BuildTraits:
    """Read the traits of all nodes.

    Args:
        manifest: The content of a dbt manifest, with code and macros.
    """
    project = _Project(manifest)
    nodes = manifest["nodes"]
    always = {
        unique_id: reason
        for unique_id, node in nodes.items()
        if node["resource_type"] in {*_BUILT, "test"} and (reason := project.reason(node))
    }
    tests = {unique_id: project.version(node) for unique_id, node in nodes.items() if node["resource_type"] == "test"}
    unit_tests = manifest.get("unit_tests") or {}
    units = {
        unique_id: _digest([node.get(name) for name in _UNIT_TEST_FIELDS]) for unique_id, node in unit_tests.items()
    }
    for unique_id, unit_test in unit_tests.items():
        texts = [text for name in _UNIT_TEST_TEXTS for text in texts_in(unit_test.get(name))]
        tables = [*(unit_test.get("given") or ()), unit_test.get("expect") or {}]
        has_files = any(table.get("fixture") for table in tables)
        if has_files or any("{{" in text or varying_sql(text) for text in texts):
            always[unique_id] = "its rows may differ each time"
    partitioned = frozenset(unique_id for unique_id, node in nodes.items() if project.keeps_partitions(node))
    built = {unique_id: node for unique_id, node in nodes.items() if node["resource_type"] in _BUILT}
    varying = frozenset(unique_id for unique_id, node in built.items() if not project.has_fixed_reads(node))
    return BuildTraits(always, tests | units, partitioned, varying)


class _Project:
    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._nodes, self._adapter = manifest["nodes"], (manifest.get("metadata") or {}).get("adapter_type")
        self._macros = ProjectMacros(manifest)
        of_dbt = {key: macro for key, macro in (manifest.get("macros") or {}).items() if key not in self._macros.code}
        self._varying = varying_names(of_dbt)
        self._reads_variable = cache(lambda key: _VARIABLE.search(self._macros.code[key]) is not None)
        self._of_macro = cache(self._of_code_of_macro)

    def reason(self, node: Mapping[str, Any]) -> str | None:
        """Return why a node is built in each run; None if it can be reused."""
        if node["resource_type"] == "snapshot":
            return "it is a snapshot"
        return (None if _is_declared_reusable(node) else self._of_contents(node)) or _of_batches(node)

    def _of_contents(self, node: Mapping[str, Any]) -> str | None:
        arguments = self._of_arguments(node) if node["resource_type"] == "test" else None
        return self._of_kind(node) or arguments or self._of_code(node) or self._of_building(node)

    def keeps_partitions(self, node: Mapping[str, Any]) -> bool:
        """Return whether a build of one partition certainly leaves the rows of the others, and does not read them.

        A model declares that it only writes and replaces rows of the partition. Everything else about its build must be
        known: it has no code, setting or macro that could make it write, read or replace other rows.
        """
        config = node["config"]
        is_incremental = node["resource_type"] == "model" and config.get("materialized") == "incremental"
        if not is_incremental or not has_disjoint_partitions(node) or not self._replaces_rows(config):
            return False
        has_own_macros = any(not self._names_tables(key) for key in self._macros.replacing())
        reads_table = any(_THIS in _WORD.findall(_templates(text)) for text in self._own_code(node))
        return not has_own_macros and not reads_table and not self._of_contents(node) and self.has_fixed_reads(node)

    def _replaces_rows(self, config: Mapping[str, Any]) -> bool:
        """Return whether an incremental model replaces rows of what it builds, in a table that stays."""
        is_usual = not config.get("full_refresh") and config.get("on_schema_change") in _KEPT_COLUMNS
        if not is_usual or any(config.get(name) for name in config if name.endswith("predicates")):
            return False
        strategy = config.get("incremental_strategy")
        if strategy == _MICROBATCH:
            return self._adapter in _DELETE_BATCHES
        has_clauses = any(value for name, value in config.items() if name.startswith("merge_"))
        is_known = self._adapter in _REPLACE_ROWS and strategy in _REPLACING_STRATEGIES
        return is_known and bool(config.get("unique_key")) and not has_clauses

    def _names_tables(self, macro: str) -> bool:
        """Return whether a macro of the project only names tables, by its own name."""
        name = macro.rpartition(".")[2]
        return (name.partition("__")[2] or name) in _NAMING

    def has_fixed_reads(self, node: Mapping[str, Any]) -> bool:
        """Return whether what a node reads and its settings are certainly the same for all values of variables."""
        code, settings = self._code_with_inlined(node), self._settings(node)
        listed = (node.get("depends_on") or {}).get("macros") or ()
        called = self._macros.called([*code, *settings], listed)
        in_own = any(map(_VARIABLE.search, [*code, *settings])) or any(map(self._reads_variable, called))
        if self._names_vary or not in_own:
            return not self._names_vary
        is_sql = (node.get("language") or "sql") == "sql"
        if not is_sql or any(_VARIABLE.search(_templates(text)) for text in settings):
            return False
        other = [*settings, *(self._macros.code[key] for key in called)]
        return all(map(has_fixed_calls, code)) and all(declares_nothing(_templates(text)) for text in other)

    @cached_property
    def _names_vary(self) -> bool:
        """Whether a macro in place of one of dbt, such as one that names tables, reads a variable."""
        return any(map(self._reads_variable, self._macros.replacing()))

    def _settings(self, node: Mapping[str, Any]) -> list[str]:
        """Return the settings of a node, and of ephemeral models that it reads, that are templates."""
        whole = [node, *(self._nodes[key] for key in sorted(_ephemeral_parents(self._nodes, node)))]
        settings = (text for part in whole for name in _SETTINGS for text in texts_in(part.get(name)))
        return [text for text in settings if "{" in text]

    def _code_with_inlined(self, node: Mapping[str, Any]) -> list[str]:
        """Return the code of a node, and of ephemeral models that it reads."""
        whole = [node, *(self._nodes[key] for key in sorted(_ephemeral_parents(self._nodes, node)))]
        return [part.get("raw_code") or "" for part in whole]

    def _own_code(self, node: Mapping[str, Any]) -> list[str]:
        """Return the code of a node, of ephemeral models that it reads, and of the project's macros that these call."""
        code = self._code_with_inlined(node)
        return [*code, *(self._macros.code[key] for key in self._macros.called(code))]

    def _of_kind(self, node: Mapping[str, Any]) -> str | None:
        config, kind = node["config"], node["resource_type"]
        if (node.get("language") or "sql") != "sql":
            return "it is a Python model"
        # dbt v2 writes no materialization of seeds.
        materialized = config.get("materialized") or kind
        if kind != "test" and materialized not in _KNOWN:
            return f"its materialization is {materialized}"
        return None if kind == "test" else self._of_settings(config)

    def _of_settings(self, config: Mapping[str, Any]) -> str | None:
        if self._macros.materializes(str(config.get("materialized"))):
            return f"the project has its own materialization {config['materialized']}"
        return "it has hooks" if any(config.get(name) for name in _HOOKS) else None

    def _of_code(self, node: Mapping[str, Any]) -> str | None:
        is_test = node["resource_type"] == "test"
        code, settings = (
            node.get("raw_code") or "",
            [*texts_in(node["config"]), *texts_in(node.get("unrendered_config"))],
        )
        whole = [node, *(self._nodes[key] for key in sorted(_ephemeral_parents(self._nodes, node)))]
        inlined = [part.get("raw_code") or "" for part in whole[1:]]
        reads = [part.get("depends_on") or {} for part in whole]
        # Macros that replace those of dbt, and that the node does not call itself, create the table from its query.
        listed = [key for read in reads for key in read.get("macros") or ()]
        listed += self._macros.of_tests() if is_test else self._macros.of_strategy(node["config"])
        macros = self._macros.called([code, *inlined, *settings], listed)
        if any(key.startswith("function.") for read in reads for key in read.get("nodes") or ()):
            return "it calls a function of the project"
        is_replaced = not is_test and node["config"].get("materialized") != "incremental"
        if is_replaced and any(_THIS in _WORD.findall(_templates(text)) for text in self._own_code(node)):
            return "its code uses this"
        tables = _TABLE_OF_TEST if node.get("test_metadata") else frozenset[str]()
        texts = (self._of_text(text, is_test=is_test, tables=tables) for text in [code, *inlined])
        other = (self._of_template(text, is_test=is_test) for text in settings)
        callers = [code, *inlined, *settings, *(self._macros.code[key] for key in macros)]
        called = (self._of_called(key, callers, tables, is_test=is_test) for key in macros)
        return next((reason for group in (texts, other, called) for reason in group if reason), _of_sql(node))

    def _of_building(self, node: Mapping[str, Any]) -> str | None:
        """Return why the macros with which the project creates and fills tables make it built each time."""
        if node["resource_type"] == "test":
            return None
        macros = self._macros.building_tables()
        return f"the project has its own {macros[0].rpartition('.')[2]}" if macros else None

    def _of_arguments(self, test: Mapping[str, Any]) -> str | None:
        """Return why the arguments of a generic test make it run each time, such as an expression with a subquery."""
        arguments = dict((test.get("test_metadata") or {}).get("kwargs") or {})
        arguments.pop("model", None)
        for text in [*texts_in(arguments), str(test["config"].get("where") or "")]:
            found = varying_sql(text)
            if found or self._of_template(text, is_test=True):
                return f"its arguments use {found or 'a template'}"
            if _READS_TABLE.search(text):
                return "its arguments contain a query"
        return None

    def _of_code_of_macro(self, macro: str, tables: frozenset[str], is_test: bool) -> str | None:  # noqa: FBT001
        return self._of_text(self._macros.code[macro], is_test=is_test, tables=tables)

    def _of_called(self, macro: str, texts: Sequence[str], tables: frozenset[str], *, is_test: bool) -> str | None:
        """Return why a macro that a node calls makes it built each time.

        Args:
            macro: The unique id of the macro.
            texts: All texts that can call it while the node is built.
            tables: Names in templates that hold tables.
            is_test: Whether the node is a test.
        """
        code, name = self._macros.code[macro], macro.rpartition(".")[2]
        reason = self._of_macro(macro, tables, is_test)
        unnamed = unnamed_read(code, tables=tables) if reason else None
        # dbt calls these itself, or by another name.
        is_called_otherwise = "__" in name or name.startswith(("test_", "materialization_"))
        if unnamed is None or "{" not in unnamed or is_called_otherwise or macro in self._macros.reached(()):
            return reason
        if any(map(self._macros.computes_names, texts)):
            return reason
        from floe_orchestrator_dagster.product.template_names import parameters_with_tables  # few projects need it

        return self._of_text(code, is_test=is_test, tables=tables | parameters_with_tables(name, code, texts))

    def _of_text(self, text: str, *, is_test: bool, tables: frozenset[str] = frozenset()) -> str | None:
        function = varying_sql(text)
        if function:
            return f"its code uses {function}"
        read = self._of_template(text, is_test=is_test)
        if read:
            return read
        table = unnamed_read(text, tables=tables)
        if table == UNCERTAIN:
            return f"it has {UNCERTAIN}"
        name = table.replace("{}", "{{ ref(...) }}") if table else None
        return f"its code reads {name}, which is neither a ref nor a source" if name else None

    def _of_template(self, text: str, *, is_test: bool) -> str | None:
        return varying_template(text, self._varying | VALUES if is_test else self._varying)

    def version(self, test: Mapping[str, Any]) -> str:
        """Compute the version of a data test: a hash of its code, settings and macros."""
        texts = [test.get("raw_code") or "", *texts_in(test["config"]), *texts_in(test.get("test_metadata"))]
        inlined = sorted(_ephemeral_parents(self._nodes, test))
        parts = [test, *(self._nodes[key] for key in inlined)]
        texts += [part.get("raw_code") or "" for part in parts[1:]]
        listed = [macro for part in parts for macro in (part.get("depends_on") or {}).get("macros") or ()]
        macros = self._macros.reached(texts, listed)
        return _digest(
            [
                [test.get(name) for name in _TEST_FIELDS],
                (test.get("depends_on") or {}).get("nodes"),
                self._macros.digest(macros),
                [(key, self._nodes[key].get("raw_code")) for key in inlined],
            ]
        )


def _of_batches(node: Mapping[str, Any]) -> str | None:
    """Return why the rows of a node depend on the time of the run, unless it has a window of time."""
    is_batched = node["resource_type"] == "model" and node["config"].get("incremental_strategy") == _MICROBATCH
    return OF_BATCHES if is_batched else None


def _of_sql(node: Mapping[str, Any]) -> str | None:
    """Return why a setting with SQL that becomes a part of the query makes a node built each time."""
    for name in _SQL_SETTINGS:
        for text in texts_in(node["config"].get(name)):
            found = varying_sql(text) or (_READS_TABLE.search(text) and "a table")
            if found:
                return f"its {name} use {found}"
    return None


def _is_declared_reusable(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in _BUILT and is_declared_reusable(node)


def _templates(text: str) -> str:
    """Return the templates in code, without comments; all of the code if a template may contain another one."""
    return " ".join(templates_in(text))


def _ephemeral_parents(nodes: Mapping[str, Mapping[str, Any]], node: Mapping[str, Any]) -> set[str]:
    """Find the ephemeral models whose code becomes a part of a node's code."""
    found: set[str] = set()
    waiting = list((node.get("depends_on") or {}).get("nodes") or ())
    while waiting:
        parent = waiting.pop()
        read = nodes.get(parent)
        if read and parent not in found and read["config"].get("materialized") == "ephemeral":
            found.add(parent)
            waiting.extend((read.get("depends_on") or {}).get("nodes") or ())
    return found


def _digest(values: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(values), sort_keys=True, default=str).encode()).hexdigest()[:16]
