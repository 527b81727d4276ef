"""Tables and files that the SQL of dbt nodes reads without ``ref`` and ``source``.

dbt does not know them, so that nothing shows when their rows change. Code that cannot be read with certainty counts as
code that reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_PIECE = re.compile(
    r"""
    (?P<comment>\{\#.*?\#\}|--[^\n]*|/\*.*?\*/)
    | \{\{[-+]?(?P<expression>.*?)[-+]?\}\}
    | (?P<statement>\{%.*?%\})
    | (?P<string>'(?:[^'{]|''|\{(?![{%\#])|\{\{.*?\}\}|\{%.*?%\})*')
    | (?P<name>(?:[\w$]+|"[^"{]*"|`[^`{]*`|\[[\w ]+\])(?:\s*\.\s*(?:[\w$]+|"[^"{]*"|`[^`{]*`|\[[\w ]+\]|\*))*)
    | (?P<mark>\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAMED = re.compile(r"\s*(?:(?:ref|source)\s*\([^()]*\)|this)\s*")
_OF_TEST = re.compile(r"\s*model\s*")
# Syntax that some databases read as a string, an escape or a comment.
_IF, _ELSE, _END = "{if}", "{else}", "{endif}"
_BRANCHES = frozenset({_IF, _ELSE, _END})
_BRANCH = re.compile(r"\{%[-+]?\s*(if|elif|else|endif)\b")
_MARKS = {"if": _IF, "elif": _ELSE, "else": _ELSE, "endif": _END}
_STARTS_OF_QUERIES = frozenset({"select", "with", "values", "from"})
# Statements that read the table after them.
_READING_STATEMENTS = frozenset({"pivot", "unpivot", "summarize", "describe", "show", "table"})
_STRING_IN_EXPRESSION = re.compile(r"['\"]")
_CALL = re.compile(r"\s*[\w.]+\s*\(.*\)\s*", re.DOTALL)
_UNREADABLE = ("\\'", "$$", "'''", '"""')
_UNREADABLE_TOKENS = frozenset({"#", "'", '"', "`", *_READING_STATEMENTS})
UNCERTAIN = "code that cannot be read with certainty"
_READS = frozenset({"from", "join"})
_WORDS_OF_FROM = frozenset({"lateral", "only", "outer"})
_ENDS_OF_FROM = words(
    """
    where group order having limit qualify union intersect except minus select window offset fetch
    """
)
# Functions whose arguments contain the word `from`.
_WITH_FROM = frozenset({"extract", "trim", "substring", "overlay", "position", "date_part"})
_TABLE_FUNCTIONS = frozenset(
    {"unnest", "generate_series", "range", "values", "flatten", "explode", "generate_date_array"}
)


@dataclass
class _Level:
    """State of the reader between two parentheses."""

    function: str = ""
    expects: bool = False
    in_from: bool = False


@dataclass
class _Reader:
    """Reads the tokens of a query, and remembers the first table that is not a common table expression."""

    tables: frozenset[str]
    levels: list[_Level] = field(default_factory=lambda: [_Level()])
    branches: list[bool] = field(default_factory=list)
    previous: str = ""
    found: str | None = None

    def read(self, token: str, following: str) -> None:
        """Read a token; ``following`` is the next one."""
        level = self.levels[-1]
        if token in _BRANCHES:
            self._read_branch(token, level)
            return
        if token == "(":  # noqa: S105  # not a password
            lists_tables = level.expects and following not in _STARTS_OF_QUERIES
            level.expects = False
            self.levels.append(_Level(self.previous, expects=lists_tables, in_from=lists_tables))
        elif token == ")":  # noqa: S105
            if len(self.levels) > 1:
                self.levels.pop()
        elif token in _READS and not (token == "from" and self._is_in_expression(level)):  # noqa: S105
            level.expects = level.in_from = True
        elif level.expects:
            self._read_table(token, following, level)
        elif token == "," and level.in_from:  # noqa: S105
            level.expects = True
        elif token in _ENDS_OF_FROM:
            level.in_from = False
        self.previous = token

    def _read_branch(self, token: str, level: _Level) -> None:
        """Expect a table at the start of each branch of a template if one is expected before the template."""
        if token == _IF:
            self.branches.append(level.expects)
        elif token == _ELSE:
            level.expects = bool(self.branches) and self.branches[-1]
        else:
            self.branches = self.branches[:-1]

    def _is_in_expression(self, level: _Level) -> bool:
        return level.function in _WITH_FROM or self.previous == "distinct"

    def _read_table(self, token: str, following: str, level: _Level) -> None:
        if token in _WORDS_OF_FROM:
            return
        level.expects = False
        known = _TABLE_FUNCTIONS if following == "(" else self.tables
        if token != "{}" and token not in known:  # noqa: S105
            self.found = self.found or token


@lru_cache(maxsize=20_000)
def unnamed_read(code: str, *, is_test: bool = False) -> str | None:
    """Return the first table or file that code reads without ``ref`` and ``source``; None without one.

    Args:
        code: SQL with Jinja templates, of a node or a macro.
        is_test: Whether it is the code of a test, whose ``model`` dbt knows.
    """
    if any(text in code for text in _UNREADABLE):
        return UNCERTAIN
    tokens: list[str] = []
    for piece in _PIECE.finditer(code):
        kind, text = piece.lastgroup, piece.group()
        if kind == "expression":
            inner = piece.group("expression")
            known = _NAMED.fullmatch(inner) or (is_test and _OF_TEST.fullmatch(inner))
            if not known and _STRING_IN_EXPRESSION.search(inner) and not _CALL.fullmatch(inner):
                return UNCERTAIN  # it may print SQL
            tokens.append("{}" if known else "{{" + inner + "}}")
        elif kind == "statement":
            branch = _BRANCH.match(text)
            tokens += [_MARKS[branch[1]]] if branch else []
        elif kind == "string":
            tokens.append("''")
        elif kind in {"name", "mark"}:
            tokens.append(text.lower().strip('"`'))
    if not _UNREADABLE_TOKENS.isdisjoint(tokens):
        return UNCERTAIN
    return _first_unnamed(tokens)


def _first_unnamed(tokens: list[str]) -> str | None:
    tables = list(_common_tables(tokens))
    if "recursive" not in tokens:
        # In its own body, the name of a common table expression is that of another table.
        for name, start in tables:
            if any(first in _READS and second == name for first, second in pairwise(_body(tokens, start))):
                return name
    reader = _Reader(frozenset(name for name, _ in tables))
    for token, following in pairwise([*tokens, ""]):
        if token == "{}" and following.startswith("."):  # noqa: S105
            return f"a table in {following}"
        reader.read(token, following)
    return reader.found


def _common_tables(tokens: list[str]) -> Iterator[tuple[str, int]]:
    """List the common table expressions, ``name as (`` or ``name (columns) as (``, with the index of the last bracket.

    Args:
        tokens: The tokens of a query.
    """
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
            yield tokens[name], start


def _opens(tokens: list[str], place: int) -> int | None:
    while place < len(tokens) and tokens[place] in {"not", "materialized"}:
        place += 1
    return place if place < len(tokens) and tokens[place] == "(" else None


def _body(tokens: list[str], start: int) -> list[str]:
    """Return the tokens from an opening bracket to the closing one."""
    depth = 0
    for place in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[place], 0)
        if depth == 0:
            return tokens[start:place]
    return tokens[start:]
