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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet


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
_PRINTED_NAME = re.compile(r"\{\{[-+]?\s*\w+\s*[-+]?\}\}")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
# Syntax that some databases read as a string, an escape or a comment.
_IF, _ELIF, _ELSE, _END, _PART = "{if}", "{elif}", "{else}", "{endif}", "{end of a part}"
_BRANCHES = frozenset({_IF, _ELIF, _ELSE, _END})
_BRANCH = re.compile(r"\{%[-+]?\s*(if|for|elif|else|endif|endfor|endset|endmacro|endcall)\b")
_MARKS = {"if": _IF, "for": _IF, "endfor": _END, "elif": _ELIF, "else": _ELSE, "endif": _END}
_STARTS_OF_QUERIES = frozenset({"select", "with", "values", "from"})
# Statements that read the table after them.
_READING_STATEMENTS = frozenset({"pivot", "unpivot", "summarize", "describe", "show", "table"})
_STRING = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_WORDS_OF_SQL = re.compile(r"\b(?:from|join|table|pivot|unpivot|select)\b", re.IGNORECASE)
# A block or a call that changes the text of a table or a query.
_CHANGES_TEXT = re.compile(r"\{%[-+]?\s*filter\b|\{\{(?=.*\b(?:ref|source)\b).*\breplace\b", re.DOTALL)
_ASSIGNED = re.compile(r"\{%[-+]?\s*(?:set|for)\s+([\w\s,.()]+?)\s*(?:\bin\b|=|[-+]?%\})")
_WORD = re.compile(r"\w+")
_LISTED = re.compile(r"\s*,\s*\w")
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
        if token in _BRANCHES:
            self._read_branch(token, level)
            return
        if token == _PART:
            self.end()
        elif token == "(":  # noqa: S105  # not a password
            lists_tables = level.expects and following not in _STARTS_OF_QUERIES
            level.expects = False
            self.levels.append(_Level(self.previous, lists_tables, lists_tables, lists_tables))
        elif token == ")":  # noqa: S105
            if len(self.levels) > 1:
                self.levels.pop()
        elif token in _READS and not (token == "from" and self._is_in_expression(level)):  # noqa: S105
            level.expects, level.in_from, level.may_end = True, True, False
        elif level.expects and not (level.may_end and token in _ENDS_OF_FROM):
            self._read_table(place, token, following, level)
        elif token == "," and level.in_from:  # noqa: S105
            level.expects, level.may_end = True, False
        elif token in _ENDS_OF_FROM:
            level.expects = level.in_from = False
        self.previous = token

    def end(self) -> None:
        """Read the end of a part: a table that is expected there is in another one."""
        if any(level.expects and not level.may_end for level in self.levels):
            self.found = self.found or UNCERTAIN

    def _read_branch(self, token: str, level: _Level) -> None:
        """Read each branch of a template from the same state; after them, any of their states is possible."""
        state = level.expects, level.in_from
        if token == _IF:
            self.branches.append(_Branches(len(self.levels), state))
            return
        if not self.branches:
            return
        branches = self.branches[-1]
        if branches.depth != len(self.levels):
            self.found = self.found or UNCERTAIN
        branches.ends = branches.ends[0] or state[0], branches.ends[1] or state[1]
        if token == _END:
            self.branches.pop()
            start = (False, False) if branches.has_else else branches.start
            level.may_end = level.may_end or not (state[0] and (branches.has_else or branches.start[0]))
            level.expects, level.in_from = branches.ends[0] or start[0], branches.ends[1] or start[1]
            return
        branches.has_else = branches.has_else or token == _ELSE
        level.expects, level.in_from = branches.start

    def _is_in_expression(self, level: _Level) -> bool:
        return level.function in _WITH_FROM or self.previous == "distinct"

    def _read_table(self, place: int, token: str, following: str, level: _Level) -> None:
        if token in _WORDS_OF_FROM:
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


@dataclass
class _Tokens:
    """Splits code into tokens: words of SQL, and templates as ``{}`` if they print a table that dbt knows.

    Attributes:
        known: Names of templates that hold such a table.
        found: The tokens.
        is_certain: Whether the code could be read.
    """

    known: frozenset[str]
    found: list[str] = field(default_factory=list)
    is_certain: bool = True
    _before: re.Match[str] | None = None
    # The name that the next piece continues, and those at the start and at the ends of branches.
    _name: re.Match[str] | None = None
    _branches: list[tuple[re.Match[str] | None, list[re.Match[str] | None]]] = field(default_factory=list)

    def add(self, piece: re.Match[str]) -> None:
        """Add the next piece of the code."""
        kind, text = piece.lastgroup, piece.group()
        if self._before is not None and not _touch(self._before, piece):
            self._name = None
        self._before = piece
        if kind in {"expression", "statement"}:
            self._add_template(piece)
        elif kind == "name":
            self._add_name(piece, _token(text.lower()))
        elif kind != "comment":
            self._name = None
            self.found.append("''" if kind == "string" else text.lower())
            self.is_certain = self.is_certain and not (text == "/" and _may_be_comment(piece))
        elif not text.startswith("{#"):
            self._name = None
            if "{%" in text:  # Jinja runs it
                self.is_certain = False

    def _add_template(self, piece: re.Match[str]) -> None:
        text, inner = piece.group(), piece.group("expression")
        if _prints_sql(text) or _CHANGES_TEXT.match(text):
            self.is_certain = False
        branch = _BRANCH.match(text)
        if inner is not None:
            is_known = _NAMED.fullmatch(inner) or inner.strip() in self.known
            self._add_name(piece, "{}" if is_known else "{{" + inner + "}}")
        elif branch:
            self._add_mark(_MARKS.get(branch[1], _PART))

    def _add_name(self, piece: re.Match[str], token: str) -> None:
        """Add a name or a template; with the one before it if nothing is printed between them: ``{{ a }}_latest``."""
        before, self._name = self._name, piece
        if before is None or not _is_one_name(before, piece):
            self.found.append(token)
        elif self.found[-1] in {*_BRANCHES, _PART}:
            self.is_certain = False
        else:
            self.found[-1] += token

    def _add_mark(self, mark: str) -> None:
        """Add a branch of a template. Each one continues the name before the template."""
        self.found.append(mark)
        if mark == _IF:
            self._branches.append((self._name, []))
        elif mark != _PART and self._branches:
            start, ends = self._branches[-1]
            ends.append(self._name)
            self._name = start
            if mark == _END:
                self._branches.pop()
                self._name = next((name for name in ends if name is not None), start)


def _may_be_comment(piece: re.Match[str]) -> bool:
    """Return whether two slashes, an operator or the start of a comment, are before the end of a string."""
    line = _TEMPLATE.sub("", piece.string[piece.start() :].partition("\n")[0])
    return line.startswith("//") and "'" in line


def _touch(before: re.Match[str], piece: re.Match[str]) -> bool:
    """Return whether nothing is printed between two pieces."""
    is_trimmed = before.group().endswith(("-}}", "-%}", "-#}")) or piece.group().startswith(("{{-", "{%-", "{#-"))
    return before.end() == piece.start() or is_trimmed


def _is_one_name(before: re.Match[str], piece: re.Match[str]) -> bool:
    """Return whether two pieces, one of them a template, form one name if nothing is between them."""
    names = [one.group().lower() for one in (before, piece) if one.lastgroup == "name"]
    return len(names) < 2 and _SQL.isdisjoint(names)  # noqa: PLR2004


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
    tokens = _Tokens(tables | _names_of_tables(code))
    for piece in _PIECE.finditer(code):
        tokens.add(piece)
    words = tokens.found
    is_readable = not any(text in code for text in _UNREADABLE) and not any(
        word in _UNREADABLE_TOKENS and not _is_operator(words, place) for place, word in enumerate(words)
    )
    assigned = Counter(name for target in _ASSIGNED.findall(code) for name in _WORD.findall(target))
    changing = frozenset(name for name, count in assigned.items() if count > 1)
    return _first_unnamed(words, changing) if tokens.is_certain and is_readable else UNCERTAIN


def _names_of_tables(code: str) -> frozenset[str]:
    """Return the names of the code that always hold tables of ``ref`` or ``source``."""
    if not _PRINTED_NAME.search(code):
        return frozenset()
    from floe_orchestrator_dagster.product.template_names import names_of_tables  # few models need it

    return names_of_tables(code)


def _token(text: str) -> str:
    """Return a name without quotes, unless it would become a word of SQL, such as the column ``"from"``."""
    name = text.strip('"`')
    return text if name != text and name in _SQL else name


def _is_operator(tokens: Sequence[str], place: int) -> bool:
    """Return whether a token is an operator behind a table, as in ``from a pivot (...)``, and no statement."""
    is_pivot = tokens[place] in {"pivot", "unpivot"} and tokens[place + 1 : place + 2] == ["("]
    before = tokens[place - 1] if place else ""
    return is_pivot and (before in {"{}", ")"} or (before.isidentifier() and before not in _SQL))


def _prints_sql(template: str) -> bool:
    """Return whether a string in a template is a part of a query, which the template may print."""
    texts = (single or double for single, double in _STRING.findall(template))
    return any(_LISTED.match(text) or (" " in text and _WORDS_OF_SQL.search(text)) for text in texts)


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
    templates = [template[2:-2].strip() for template in _TEMPLATE.findall(name)]
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
