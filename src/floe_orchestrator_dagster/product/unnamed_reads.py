"""Tables and files that the SQL of dbt nodes reads without ``ref`` and ``source``.

dbt does not know them, so that nothing shows when their rows change. Code that cannot be read with certainty counts as
code that reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_PIECE = re.compile(
    r"""
    (?P<comment>\{\#.*?\#\}|--[^\n]*|/\*.*?\*/)
    | \{\{[-+]?(?P<expression>.*?)[-+]?\}\}
    | (?P<statement>\{%.*?%\})
    | (?P<string>'(?:[^'{]|''|\{(?![{%\#])|\{\{(?:(?!\}\}).)*\}\}|\{%(?:(?!%\}).)*%\})*')
    | (?P<name>(?:[\w$]+|"[^"{]*"|`[^`{]*`|\[[\w ]+\])(?:\s*\.\s*(?:[\w$]+|"[^"{]*"|`[^`{]*`|\[[\w ]+\]|\*))*)
    | (?P<mark>\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAMED = re.compile(r"\s*(?:(?:ref|source)\s*\([^()]*\)|this)\s*")
_OF_TEST = re.compile(r"\s*model\s*")
_PRINTED_NAME = re.compile(r"\b(?:from|join)\s+\{\{[-+]?\s*\w+\s*[-+]?\}\}", re.IGNORECASE)
# Syntax that some databases read as a string, an escape or a comment.
_IF, _ELSE, _END = "{if}", "{else}", "{endif}"
_BRANCHES = frozenset({_IF, _ELSE, _END})
_BRANCH = re.compile(r"\{%[-+]?\s*(if|for|elif|else|endif|endfor)\b")
_MARKS = {"if": _IF, "for": _IF, "endfor": _END, "elif": _ELSE, "else": _ELSE, "endif": _END}
_STARTS_OF_QUERIES = frozenset({"select", "with", "values", "from"})
# Statements that read the table after them.
_READING_STATEMENTS = frozenset({"pivot", "unpivot", "summarize", "describe", "show", "table"})
_STRING = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_WORDS_OF_SQL = re.compile(r"\b(?:from|join|table|pivot|unpivot|select)\b", re.IGNORECASE)
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
_SQL = (
    {"as", "distinct", "recursive", "not", "materialized"}
    | _STARTS_OF_QUERIES
    | _READING_STATEMENTS
    | _READS
    | _WORDS_OF_FROM
    | _ENDS_OF_FROM
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

    tables: dict[str, list[range]]
    levels: list[_Level] = field(default_factory=lambda: [_Level()])
    branches: list[bool] = field(default_factory=list)
    previous: str = ""
    found: str | None = None

    def read(self, place: int, token: str, following: str) -> None:
        """Read the token at a place; ``following`` is the next one."""
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
            self._read_table(place, token, following, level)
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
            level.in_from = level.in_from or level.expects
        else:
            self.branches = self.branches[:-1]

    def _is_in_expression(self, level: _Level) -> bool:
        return level.function in _WITH_FROM or self.previous == "distinct"

    def _read_table(self, place: int, token: str, following: str, level: _Level) -> None:
        if token in _WORDS_OF_FROM:
            return
        level.expects = False
        if token in _STARTS_OF_QUERIES:  # after a bracket and a template, such as a loop over parts of a union
            level.in_from = False
            return
        if following == "(":
            is_known = token in _TABLE_FUNCTIONS
        else:
            is_known = any(place in seen for seen in self.tables.get(token, ()))
        if token != "{}" and not is_known:  # noqa: S105
            self.found = self.found or token


@lru_cache(maxsize=20_000)
def unnamed_read(code: str, *, is_test: bool = False, tables: frozenset[str] = frozenset()) -> str | None:
    """Return the first table or file that code reads without ``ref`` and ``source``; None without one.

    Args:
        code: SQL with Jinja templates, of a node or a macro.
        is_test: Whether it is the code of a test, whose ``model`` dbt knows.
        tables: Names of parameters that hold tables of ``ref`` and ``source``.
    """
    if any(text in code for text in _UNREADABLE):
        return UNCERTAIN
    tokens: list[str] = []
    tables |= _names_of_tables(code)
    before: re.Match[str] | None = None
    for piece in _PIECE.finditer(code):
        kind, text = piece.lastgroup, piece.group()
        is_continued, before = before is not None and _continues(before, piece), piece
        if kind == "expression":
            inner = piece.group("expression")
            known = _NAMED.fullmatch(inner) or (is_test and _OF_TEST.fullmatch(inner)) or inner.strip() in tables
            if _prints_sql(inner):
                return UNCERTAIN
            _add(tokens, "{}" if known else "{{" + inner + "}}", to_last=is_continued)
        elif kind == "statement":
            if _prints_sql(text):
                return UNCERTAIN
            branch = _BRANCH.match(text)
            tokens += [_MARKS[branch[1]]] if branch else []
        elif kind == "string":
            tokens.append("''")
        elif kind in {"name", "mark"}:
            _add(tokens, _token(text.lower()), to_last=is_continued)
    # An operator as in `from a pivot (…)`, or a statement with a query in brackets, which is read as such.
    operators = {"pivot", "unpivot"} if all(after == "(" for after in _after_pivots(tokens)) else set()
    if not (_UNREADABLE_TOKENS - operators).isdisjoint(tokens):
        return UNCERTAIN
    return _first_unnamed(tokens)


def _token(text: str) -> str:
    """Return a name without quotes, unless it would become a word of SQL, such as the column ``"from"``."""
    name = text.strip('"`')
    return text if name != text and name in _SQL else name


def _names_of_tables(code: str) -> frozenset[str]:
    """Return the names of the code that always hold tables of ``ref`` or ``source``."""
    if not _PRINTED_NAME.search(code):
        return frozenset()
    from floe_orchestrator_dagster.product.template_names import names_of_tables  # few models need it

    return names_of_tables(code)


def _continues(before: re.Match[str], piece: re.Match[str]) -> bool:
    """Return whether a template and text next to it, such as ``{{ name }}_latest``, are parts of one name."""
    names = [one.group().lower() for one in (before, piece) if one.lastgroup == "name"]
    is_next = before.end() == piece.start() or before.group().endswith("-}}") or piece.group().startswith("{{-")
    kinds = {before.lastgroup, piece.lastgroup}
    return is_next and kinds in ({"expression"}, {"expression", "name"}) and _SQL.isdisjoint(names)


def _add(tokens: list[str], token: str, *, to_last: bool) -> None:
    if to_last:
        tokens[-1] += token
    else:
        tokens.append(token)


def _after_pivots(tokens: list[str]) -> list[str]:
    return [after for token, after in pairwise([*tokens, ""]) if token in {"pivot", "unpivot"}]


def _prints_sql(template: str) -> bool:
    """Return whether a string in a template is a part of a query, which the template may print."""
    texts = (single or double for single, double in _STRING.findall(template))
    return any(len(text.split()) > 1 and _WORDS_OF_SQL.search(text) for text in texts)


def _first_unnamed(tokens: list[str]) -> str | None:
    reader = _Reader(_common_tables(tokens))
    for place, (token, following) in enumerate(pairwise([*tokens, ""])):
        if token == "{}" and following.startswith("."):  # noqa: S105
            return f"a table in {following}"
        reader.read(place, token, following)
    return reader.found


def _common_tables(tokens: list[str]) -> dict[str, list[range]]:
    """Return the common table expressions, ``name as (`` or ``name (columns) as (``, with the tokens that see them.

    A name is that of the expression after its body, within the bracket that contains it; with ``recursive`` also in the
    body. Elsewhere it is the name of another table.
    """
    closing, enclosing = _brackets(tokens)
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
            first = name if "recursive" in tokens else closing.get(start, len(tokens))
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
