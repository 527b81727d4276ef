"""Tables that SQL reads by their name, without ``ref()`` or ``source()``: dbt does not know that the code reads them.

The code is split into words, without a parser of SQL. Names of CTEs and table functions are not tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Templates that print text, in most cases `ref()` or `source()`, and those directly after a word of SQL.
_TEMPLATE_PRINTS = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_BEFORE_PRINTED = re.compile(r"\b(from|join)(?=\{\{)", re.IGNORECASE)
# Comments, other templates, strings, and the comparison `is distinct from`, whose `from` is not followed by a table.
_LEFT_OUT = re.compile(
    r"\{\#.*?\#\}|\{%.*?%\}|--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\bis\s+(?:not\s+)?distinct\s+from\b",
    re.DOTALL | re.IGNORECASE,
)
# Words that replace templates in the code.
_PRINTED, _IF, _ELSE, _END = "jinja__", "jinja_if__", "jinja_else__", "jinja_end__"
_MARKS = frozenset({_IF, _ELSE, _END})
_BRANCHES = ((r"if", _IF), (r"el(?:se|if)", _ELSE), (r"endif", _END))
_WORD = re.compile(r"[^\s(),;]+|[(),;]")
_CTE = re.compile(r"\bas\s+(?:not\s+)?(?:materialized\s+)?\(", re.IGNORECASE)
# The name of a CTE, with or without names of columns, before `as (`.
_NAME_OF_CTE = re.compile(r"""([\w$]+|"[^"]*"|`[^`]*`|\[[^\]]*\])\s*(?:\([^()]*\)\s*)?$""")
# Number of characters before `as (` in which the name of a CTE is searched.
_LONGEST_HEAD = 300
_BRACKETS = "()"
_STARTS_OF_QUERIES = frozenset({"select", "with", "values", "from"})
# Words that are not a table where one is expected.
_BEFORE_TABLE = frozenset({"lateral", "only", "tablesample"})
# Functions with `from` between their arguments.
_WITH_FROM = frozenset({"extract", "trim", "substring", "substr", "overlay", "position", "ltrim", "rtrim"})
# Words after the tables of a query.
_NEXT_CLAUSES = frozenset({
    "where", "group", "order", "having", "limit", "union", "except", "intersect", "window", "qualify", "on", "using",
    "select", "left", "right", "full", "inner", "cross", "natural", "offset", "fetch", "with", "set",
})  # fmt: skip


def undeclared_tables(code: str) -> frozenset[str]:
    """Return the names of tables in the ``from`` and ``join`` of a model's or macro's code that are not CTEs of it.

    Args:
        code: SQL with its Jinja templates.
    """
    plain = _without_templates(code)
    # A template that prints the whole name is `ref()`, `source()`, or reads a value, which `values_read.py` finds.
    tables = {name for name in _tables(_WORD.findall(plain)) if name != _PRINTED}
    defined = _ctes(plain) if tables else frozenset()
    return frozenset(name.replace(_PRINTED, "{{…}}") for name in tables if _plain_name(name) not in defined)


def _without_templates(code: str) -> str:
    """Replace templates with words, and remove comments and strings."""
    for name, word in _BRANCHES:
        code = re.sub(rf"\{{%[-+]?\s*{name}\b.*?%\}}", f" {word} ", code, flags=re.DOTALL)
    code = _BEFORE_PRINTED.sub(r"\1 ", code)
    code = _TEMPLATE_PRINTS.sub(_PRINTED, code)
    return _LEFT_OUT.sub(" ", code)


def _ctes(code: str) -> frozenset[str]:
    heads = (code[max(0, found.start() - _LONGEST_HEAD) : found.start()] for found in _CTE.finditer(code))
    names = (_NAME_OF_CTE.search(head) for head in heads)
    return frozenset(_plain_name(name[1]) for name in names if name)


def _plain_name(name: str) -> str:
    return name.strip('"`[]').lower()


def _tables(words: list[str]) -> Iterator[str]:
    """List the tables: the words after ``from``, ``join`` and the commas between tables."""
    place = _Place()
    for index, word in enumerate(words):
        lower = word.lower()
        following = words[index + 1].lower() if index + 1 < len(words) else ""
        if word in _MARKS:
            place.pass_mark(word)
        elif word in _BRACKETS:
            place.pass_bracket(word, words[index - 1].lower() if index else "", following)
        elif place.is_table_expected and lower in _BEFORE_TABLE:
            continue
        elif place.is_table_expected:
            place.is_table_expected = False
            if following != "(":
                yield word
        else:
            place.pass_word(lower)


@dataclass
class _Place:
    """A place in the code.

    Attributes:
        is_table_expected: Whether the next word is a table.
        functions: The word before each open bracket.
        lists_tables: Whether a comma is followed by a table: first outside of brackets, then in each open bracket.
        branches: Whether each branch of an ``if`` starts with a table, for each open ``if`` of the templates.
    """

    is_table_expected: bool = False
    functions: list[str] = field(default_factory=list)
    lists_tables: list[bool] = field(default_factory=lambda: [False])
    branches: list[bool] = field(default_factory=list)

    def pass_mark(self, mark: str) -> None:
        """Continue after the start, the next branch or the end of an ``if`` of a template."""
        if mark == _IF:
            self.branches.append(self.is_table_expected)
        elif mark == _ELSE:
            self.is_table_expected = bool(self.branches) and self.branches[-1]
        else:
            self.branches = self.branches[:-1]

    def pass_bracket(self, bracket: str, before: str, following: str) -> None:
        """Continue after an opening or closing bracket, between the words ``before`` and ``following``."""
        if bracket == "(":
            self.functions.append(before)
            self.lists_tables.append(self.is_table_expected)
            self.is_table_expected = self.is_table_expected and following not in _STARTS_OF_QUERIES
        else:
            self.is_table_expected = False
            self.functions = self.functions[:-1]
            self.lists_tables = self.lists_tables[:-1] or [False]

    def pass_word(self, word: str) -> None:
        """Continue after a word that is not a table, or after a comma."""
        if word == "join" or (word == "from" and not (self.functions and self.functions[-1] in _WITH_FROM)):
            self.is_table_expected = self.lists_tables[-1] = True
        elif word == ",":
            self.is_table_expected = self.lists_tables[-1]
        elif word in _NEXT_CLAUSES:
            self.lists_tables[-1] = False
