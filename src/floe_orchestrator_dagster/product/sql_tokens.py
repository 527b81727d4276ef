"""Tokens of SQL with Jinja templates: words, brackets, and templates with their branches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from floe_orchestrator_dagster.product.code_templates import TEMPLATE


def words(text: str) -> frozenset[str]:
    """Return the words of a string."""
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
# Tokens of templates with branches, and the end of a block whose text a template prints elsewhere.
IF, ELIF, ELSE, END, PART = "{if}", "{elif}", "{else}", "{endif}", "{end of a part}"
BRANCHES = frozenset({IF, ELIF, ELSE, END})
_BRANCH = re.compile(r"\{%[-+]?\s*(if|for|elif|else|endif|endfor|endset|endmacro|endcall)\b")
_MARKS = {"if": IF, "for": IF, "endfor": END, "elif": ELIF, "else": ELSE, "endif": END}
# Groups of words of SQL.
STARTS_OF_QUERIES = frozenset({"select", "with", "values", "from"})
# Statements that read the table after them.
READING_STATEMENTS = frozenset({"pivot", "unpivot", "summarize", "describe", "show", "table"})
READS = frozenset({"from", "join"})
WORDS_OF_FROM = frozenset({"lateral", "only", "outer"})
ENDS_OF_FROM = words(
    """
    where group order having limit qualify union intersect except minus select window offset fetch
    """
)
SQL = (
    {"as", "distinct", "recursive", "not", "materialized"}
    | STARTS_OF_QUERIES
    | READING_STATEMENTS
    | READS
    | WORDS_OF_FROM
    | ENDS_OF_FROM
)
_STRING = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_WORDS_OF_SQL = re.compile(r"\b(?:from|join|table|pivot|unpivot|select)\b", re.IGNORECASE)
# A block or a call that changes the name of a table or a query.
_CHANGES_TEXT = re.compile(r"\{%[-+]?\s*filter\b|\{\{(?=.*\b(?:ref|source)\b).*\breplace\b", re.DOTALL)
_LISTED = re.compile(r"\s*,\s*\w")


@dataclass
class Tokens:
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
            self._add_mark(_MARKS.get(branch[1], PART))

    def _add_name(self, piece: re.Match[str], token: str) -> None:
        """Add a name or a template; with the one before it if nothing is printed between them: ``{{ a }}_latest``."""
        before, self._name = self._name, piece
        if before is None or not _is_one_name(before, piece):
            self.found.append(token)
        elif self.found[-1] in {*BRANCHES, PART}:
            self.is_certain = False
        else:
            self.found[-1] += token

    def _add_mark(self, mark: str) -> None:
        """Add a branch of a template. Each one continues the name before the template."""
        self.found.append(mark)
        if mark == IF:
            self._branches.append((self._name, []))
        elif mark != PART and self._branches:
            start, ends = self._branches[-1]
            ends.append(self._name)
            self._name = start
            if mark == END:
                self._branches.pop()
                self._name = next((name for name in ends if name is not None), start)


def tokens_of(code: str, known: frozenset[str]) -> Tokens:
    """Split code into tokens; ``known`` are the names of templates that hold tables which dbt knows."""
    tokens = Tokens(known)
    for piece in _PIECE.finditer(code):
        tokens.add(piece)
    return tokens


def _may_be_comment(piece: re.Match[str]) -> bool:
    """Return whether two slashes, an operator or the start of a comment, are before the end of a string."""
    line = TEMPLATE.sub("", piece.string[piece.start() :].partition("\n")[0])
    return line.startswith("//") and "'" in line


def _touch(before: re.Match[str], piece: re.Match[str]) -> bool:
    """Return whether nothing is printed between two pieces."""
    is_trimmed = before.group().endswith(("-}}", "-%}", "-#}")) or piece.group().startswith(("{{-", "{%-", "{#-"))
    return before.end() == piece.start() or is_trimmed


def _is_one_name(before: re.Match[str], piece: re.Match[str]) -> bool:
    """Return whether two pieces, one of them a template, form one name if nothing is between them."""
    names = [one.group().lower() for one in (before, piece) if one.lastgroup == "name"]
    return len(names) < 2 and SQL.isdisjoint(names)  # noqa: PLR2004


def _token(text: str) -> str:
    """Return a name without quotes, unless it would become a word of SQL, such as the column ``"from"``."""
    name = text.strip('"`')
    return text if name != text and name in SQL else name


def _prints_sql(template: str) -> bool:
    """Return whether a string in a template is a part of a query, which the template may print."""
    texts = (single or double for single, double in _STRING.findall(template))
    return any(_LISTED.match(text) or (" " in text and _WORDS_OF_SQL.search(text)) for text in texts)
