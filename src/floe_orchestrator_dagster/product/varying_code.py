"""Names in SQL and templates whose values differ between two runs of the same code, or come from queries."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.code_templates import without_prose
from floe_orchestrator_dagster.product.sql_tokens import words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

VALUES = frozenset({"var", "env_var"})
"""Functions whose values are part of the fingerprints of nodes. Tests have no such fingerprint."""

# Names in templates.
_VARYING = words(
    """
    adapter attr builtins context database_schemas dbt_metadata_envs  execute flags
    get_column_schema_from_query get_columns_in_query get_columns_in_relation get_relation
    get_relations_by_pattern get_relations_by_prefix invocation_args_dict invocation_id lipsum load_agate_table
    load_relation load_result modules random results run_query run_started_at schemas selected_resources
    statement thread_id
    """
)
_HARMLESS = re.compile(
    r"""\badapter\s*\.\s*(?:quote\s*\(|dispatch\s*\(\s*(?:macro_name\s*=\s*)?(?=['"][^'"{}]*['"]\s*[,)]))"""
    r"|\bmodules\s*\.\s*(?:re|itertools)\b"
)
# Access to a macro of dbt by a name that the code computes.
_COMPUTED = re.compile(r"\bdbt(?:_\w+)?\s*(?:\[\s*(?!['\"][^'\"]*['\"]\s*\])|\.\s*(?:get|items|values)\b)")
# Macros of dbt whose result only depends on the node, the flags of the run and their arguments.
_ALLOWED_OF_DBT = frozenset({"date", "is_incremental", "should_store_failures", "should_full_refresh"})
_WORD = re.compile(r"\w+")
# Names in SQL whose values differ between two runs, and functions that read files or other databases.
_VARYING_NAMES = words(
    """
    current_catalog current_database current_date current_role current_schema current_setting current_time
    current_timestamp current_user current_warehouse getdate getenv getutcdate getvariable localtime
    localtimestamp session_user sysdate sysdatetime sysdatetimeoffset systimestamp tablesample
    """
)
_VARYING_FUNCTIONS = words(
    """
    age clock_timestamp dblink external_query gen_random_uuid generate_uuid generate_uuidv4 get_current_time
    get_current_timestamp glob newid nextval now openquery openrowset query query_table rand randn random
    randstr st_read statement_timestamp timeofday today transaction_timestamp txid_current unix_timestamp uuid
    uuid_string uuidv4 uuidv7 zipf
    """
)
_READING = re.compile(r"read_\w+|\w+_scan|\w+_query|current_\w+|generate_uuid\w*")
_CALL = re.compile(r"(?<![\w$])([a-z_]\w*)\s*\(")
_TIME_LITERAL = re.compile(r"'(?:now|today|tomorrow|yesterday)'|\busing\s+sample\b")


@lru_cache(maxsize=20_000)
def varying_sql(code: str) -> str | None:
    """Return the first name in SQL whose value differs between two runs; None without one."""
    text = code.lower()
    called = set(_CALL.findall(text))
    found = sorted(_VARYING_NAMES & set(_WORD.findall(text)) | _VARYING_FUNCTIONS & called)
    if found:
        return found[0]
    literal = _TIME_LITERAL.search(text)
    return literal.group() if literal else next((name for name in sorted(called) if _READING.fullmatch(name)), None)


def varying_template(text: str, varying: AbstractSet[str]) -> str | None:
    """Return why the result of templates may differ between two runs; None if it does not.

    Args:
        text: Code with templates.
        varying: Names that differ.
    """
    if "{" not in text:
        return None
    templates = _HARMLESS.sub("", without_prose(text))
    found = sorted(varying & set(_WORD.findall(templates)))
    if not found and _COMPUTED.search(templates):
        return "its code computes the names of macros"
    return f"its code uses {found[0]}" if found else None


def varying_names(macros: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the names in templates whose values differ, with those of macros that use them.

    Args:
        macros: Macros of dbt, by unique id.
    """
    named = {
        key: set(_WORD.findall(_HARMLESS.sub("", str(macro.get("macro_sql") or "")))) for key, macro in macros.items()
    }
    names = {key: str(macro.get("name")) for key, macro in macros.items()}
    allowed = {key for key, name in names.items() if (name.partition("__")[2] or name) in _ALLOWED_OF_DBT}
    varying = {key for key, found in named.items() if found & (_VARYING | VALUES) and key not in allowed}
    callers = {key: set((macro.get("depends_on") or {}).get("macros") or ()) for key, macro in macros.items()}
    while more := {
        key for key, called in callers.items() if key not in varying and called & varying and key not in allowed
    }:
        varying |= more
    return _VARYING | frozenset(name for key in varying for name in (names[key], names[key].partition("__")[2]) if name)
