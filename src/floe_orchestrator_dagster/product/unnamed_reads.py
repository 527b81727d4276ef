"""Tables and files that the SQL of dbt nodes reads without ``ref`` and ``source``.

dbt does not know them, so that nothing shows when their rows change. Code that cannot be read with certainty counts as
code that reads them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product.code_templates import TEMPLATE
from floe_orchestrator_dagster.product.sql_tokens import (
    BRANCHES,
    ELSE,
    END,
    ENDS_OF_FROM,
    IF,
    PART,
    READING_STATEMENTS,
    READS,
    SQL,
    STARTS_OF_QUERIES,
    WORDS_OF_FROM,
    tokens_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet


_PRINTED_NAME = re.compile(r"\{\{[-+]?\s*\w+\s*[-+]?\}\}")
_ASSIGNED = re.compile(r"\{%[-+]?\s*(?:set|for)\s+([\w\s,.()]+?)\s*(?:\bin\b|=|[-+]?%\})")
_WORD = re.compile(r"\w+")
# Syntax that some databases read as a string, an escape or a comment.
_UNREADABLE = ("\\'", "$$", "'''", '"""')
_UNREADABLE_TOKENS = frozenset({"#", "'", '"', "`", *READING_STATEMENTS})
UNCERTAIN = "code that cannot be read with certainty"
# Functions whose arguments contain the word `from`.
_WITH_FROM = frozenset({"extract", "trim", "substring", "overlay", "position", "date_part"})
_TABLE_FUNCTIONS = frozenset(
    {"unnest", "generate_series", "range", "values", "flatten", "explode", "generate_date_array"}
)


@dataclass
class _Level:
    """State of the reader between two parentheses.

    Attributes:
        function: The name before the parenthesis.
        expects: Whether the next token is a table.
        in_from: Whether a comma is followed by a table.
        is_list: Whether the parenthesis contains tables, or a query behind a template.
        may_end: Whether the list of tables may have ended already, in one of the branches of a template.
    """

    function: str = ""
    expects: bool = False
    in_from: bool = False
    is_list: bool = False
    may_end: bool = False


@dataclass
class _Branches:
    """State of the reader at the start of a template with branches, and after any of those that have ended."""

    depth: int
    start: tuple[bool, bool]
    ends: tuple[bool, bool] = (False, False)
    has_else: bool = False


@dataclass
class _Reader:
    """Reads the tokens of a query, and remembers the first table that is not a common table expression."""

    tables: dict[str, list[range]]
    levels: list[_Level] = field(default_factory=lambda: [_Level()])
    branches: list[_Branches] = field(default_factory=list)
    previous: str = ""
    found: str | None = None

    def read(self, place: int, token: str, following: str) -> None:
        """Read the token at a place; ``following`` is the next one."""
        level = self.levels[-1]
        if token in BRANCHES:
            self._read_branch(token, level)
            return
        if token == PART:
            self.end()
        elif token == "(":  # noqa: S105  # not a password
            lists_tables = level.expects and following not in STARTS_OF_QUERIES
            level.expects = False
            self.levels.append(_Level(self.previous, lists_tables, lists_tables, lists_tables))
        elif token == ")":  # noqa: S105
            if len(self.levels) > 1:
                self.levels.pop()
        elif token in READS and not (token == "from" and self._is_in_expression(level)):  # noqa: S105
            level.expects, level.in_from, level.may_end = True, True, False
        elif level.expects and not (level.may_end and token in ENDS_OF_FROM):
            self._read_table(place, token, following, level)
        elif token == "," and level.in_from:  # noqa: S105
            level.expects, level.may_end = True, False
        elif token in ENDS_OF_FROM:
            level.expects = level.in_from = False
        self.previous = token

    def end(self) -> None:
        """Read the end of a part: a table that is expected there is in another one."""
        if any(level.expects and not level.may_end for level in self.levels):
            self.found = self.found or UNCERTAIN

    def _read_branch(self, token: str, level: _Level) -> None:
        """Read each branch of a template from the same state; after them, any of their states is possible."""
        state = level.expects, level.in_from
        if token == IF:
            self.branches.append(_Branches(len(self.levels), state))
            return
        if not self.branches:
            return
        branches = self.branches[-1]
        if branches.depth != len(self.levels):
            self.found = self.found or UNCERTAIN
        branches.ends = branches.ends[0] or state[0], branches.ends[1] or state[1]
        if token == END:
            self.branches.pop()
            start = (False, False) if branches.has_else else branches.start
            level.may_end = level.may_end or not (state[0] and (branches.has_else or branches.start[0]))
            level.expects, level.in_from = branches.ends[0] or start[0], branches.ends[1] or start[1]
            return
        branches.has_else = branches.has_else or token == ELSE
        level.expects, level.in_from = branches.start

    def _is_in_expression(self, level: _Level) -> bool:
        return level.function in _WITH_FROM or self.previous == "distinct"

    def _read_table(self, place: int, token: str, following: str, level: _Level) -> None:
        if token in WORDS_OF_FROM:
            return
        level.expects = False
        if level.is_list and token in {"select", "with"}:  # behind a template, such as a loop over parts of a union
            level.in_from = False
            return
        if following == "(":
            is_known = token in _TABLE_FUNCTIONS
        else:
            is_known = any(place in seen for seen in self.tables.get(token, ()))
        if token != "{}" and not is_known:  # noqa: S105
            self.found = self.found or token


@lru_cache(maxsize=20_000)
def unnamed_read(code: str, *, tables: frozenset[str] = frozenset()) -> str | None:
    """Return the first table or file that code reads without ``ref`` and ``source``; None without one.

    Args:
        code: SQL with Jinja templates, of a node or a macro.
        tables: Names of parameters that hold tables of ``ref`` and ``source``.
    """
    return read_unnamed(code, tables)


def read_unnamed(code: str, tables: frozenset[str] = frozenset()) -> str | None:
    """Return what :func:`unnamed_read` does, without keeping it."""
    tokens = tokens_of(code, tables | _names_of_tables(code))
    found = tokens.found
    is_readable = not any(text in code for text in _UNREADABLE) and not any(
        word in _UNREADABLE_TOKENS and not _is_operator(found, place) for place, word in enumerate(found)
    )
    assigned = Counter(name for target in _ASSIGNED.findall(code) for name in _WORD.findall(target))
    changing = frozenset(name for name, count in assigned.items() if count > 1)
    return _first_unnamed(found, changing) if tokens.is_certain and is_readable else UNCERTAIN


def _names_of_tables(code: str) -> frozenset[str]:
    """Return the names of the code that always hold tables of ``ref`` or ``source``."""
    if not _PRINTED_NAME.search(code):
        return frozenset()
    from floe_orchestrator_dagster.product.template_names import names_of_tables  # few models need it

    return names_of_tables(code)


def _is_operator(tokens: Sequence[str], place: int) -> bool:
    """Return whether a token is an operator behind a table, as in ``from a pivot (...)``, and no statement."""
    is_pivot = tokens[place] in {"pivot", "unpivot"} and tokens[place + 1 : place + 2] == ["("]
    before = tokens[place - 1] if place else ""
    return is_pivot and (before in {"{}", ")"} or (before.isidentifier() and before not in SQL))


def _first_unnamed(tokens: list[str], changing: AbstractSet[str]) -> str | None:
    common = _common_tables(tokens)
    reader = _Reader({name: places for name, places in common.items() if _is_fixed(name, changing)})
    for place, (token, following) in enumerate(pairwise([*tokens, ""])):
        if token == "{}" and following.startswith("."):  # noqa: S105
            return f"a table in {following}"
        reader.read(place, token, following)
    reader.end()
    return reader.found


def _is_fixed(name: str, changing: AbstractSet[str]) -> bool:
    """Return whether a name, which can have templates, is the same wherever the code has it."""
    templates = [template[2:-2].strip() for template in TEMPLATE.findall(name)]
    return all(template.isidentifier() and template not in changing for template in templates)


def _common_tables(tokens: list[str]) -> dict[str, list[range]]:
    """Return the common table expressions, ``name as (`` or ``name (columns) as (``, with the tokens that see them.

    A name is that of the expression after its body, within the bracket that contains it; with ``recursive`` also in the
    body. Elsewhere it is the name of another table.
    """
    closing, enclosing = _brackets(tokens)
    is_recursive = "recursive" in tokens
    found: dict[str, list[range]] = {}
    for place, token in enumerate(tokens):
        start = _opens(tokens, place + 1) if token == "as" else None  # noqa: S105
        if start is None:
            continue
        name = place - 1
        if name >= 0 and tokens[name] == ")":
            while name >= 0 and tokens[name] != "(":
                name -= 1
            name -= 1
        if name >= 0:
            first = name if is_recursive else closing.get(start, len(tokens))
            found.setdefault(tokens[name], []).append(range(first, closing.get(enclosing[name], len(tokens))))
    return found


def _brackets(tokens: list[str]) -> tuple[dict[int, int], list[int]]:
    """Return the closing bracket of each opening one, and the innermost open bracket at each token (-1 for none)."""
    closing: dict[int, int] = {}
    enclosing: list[int] = []
    opened: list[int] = []
    for place, token in enumerate(tokens):
        if token == ")" and opened:  # noqa: S105
            closing[opened.pop()] = place
        enclosing.append(opened[-1] if opened else -1)
        if token == "(":  # noqa: S105
            opened.append(place)
    return closing, enclosing


def _opens(tokens: list[str], place: int) -> int | None:
    while place < len(tokens) and tokens[place] in {"not", "materialized"}:
        place += 1
    return place if place < len(tokens) and tokens[place] == "(" else None
