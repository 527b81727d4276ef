"""Code of dbt models without comments and with uniform whitespace, for comparisons.

Comments and whitespace are only left out where they have no meaning on any database. All other code is compared as it
is. A model that is wrongly found changed is built once too often. A model that is wrongly found unchanged would keep
wrong rows.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PIECE = re.compile(
    r"""
    (?=[-/{'"`])(?:  # faster than trying each alternative at each character
    (?P<template_comment>\{\#(?!-)(?:(?!\#\}).)*(?<!-)\#\})
    | (?P<template>\{\{.*?\}\}|\{%.*?%\})
    | (?P<quoted>(?<![\w}])'(?:[^'\\{]|''|\{\{\s*\w+\s*\}\})*'(?!')
        |(?<![\w}])"(?:[^"\\{]|""|\{\{\s*\w+\s*\}\})*"(?!")|`[^`\\{]*`)
    | (?P<comment>--(?=[ \t\r\n]|$)[^\n]*|/\*(?!\w*[\[+!]).*?\*/)
    )
    """,
    re.VERBOSE | re.DOTALL,
)
# Templates that emit the name of a table or nothing, and conditions, which select the text between them.
_PLAIN = re.compile(
    r"""
    \{\{-?\s*(?:this|(?:ref|source)\((?:\s*(?:'[\w.-]+'|"[\w.-]+")\s*,?)+\s*\))\s*-?\}\}
    | \{%-?\s*(?:if|elif)\b[^{}%]*%\}
    | \{%-?\s*(?:else|endif|endfor)\s*-?%\}
    """,
    re.VERBOSE,
)
# A single call of `config`, which emits nothing, in a template whose strings are left out.
_CONFIG = re.compile(r"\{\{-?\s*config\((?:[^(){}%]|\([^(){}%]*\))*\)\s*-?\}\}")
# Templates that start another branch.
_BRANCH = re.compile(r"\{%-?\s*el")
# Templates that give a name to words that are written in the code, and templates that emit such a name.
_WORDS = r"""(?:'[\w .]+'|"[\w .]+"|\d+)"""
_LIST = rf"[\[(]\s*(?:{_WORDS}\s*(?:,\s*)?)*[\])]"
_SET = re.compile(rf"\{{%-?\s*set\s+(\w+)\s*=\s*(?:{_WORDS}|({_LIST}))\s*-?%\}}")
_FOR = re.compile(rf"\{{%-?\s*for\s+(\w+)\s+in\s+(?:(\w+)|{_LIST})\s*-?%\}}")
_NAME = re.compile(r"\{\{-?\s*(\w+)\s*-?\}\}")
_LITERAL = re.compile(r"""'[^']*'|"[^"]*\"""")
_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+", re.ASCII)
_ANY_SPACE = re.compile(r"\s*")
# Templates that remove space, or that nothing separates from the code before them. Without any of them, there is space
# before everything that follows `-%}`.
_UNSPACED = re.compile(r"\{%-|(?<=[^ \t\r\n])\{%|-\}\}")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# Templates and comments in a comment.
_NESTED = re.compile(r"\{[{%#]|(?!^)/\*")
# Characters that only some databases read as comments, escapes or strings. A quote is here because its end may be in a
# template.
_AMBIGUOUS = re.compile(r"""--|//|/\*|\*/|[\#\\$'"`\[]""")
# Halves of comment signs. A template between two halves can emit nothing, so that they form `--`, `/*` or `*/`.
_HALVES = ("-", "/", "*")
# Triple quotes are strings, a single carriage return and other characters are line breaks, and a backslash continues a
# comment in the next line, on some databases only. In templates, a backslash can be before a quote.
_AMBIGUOUS_ANYWHERE = re.compile(r"""'{3}|"{3}|\r(?!\n)|[\\\v\f\x1c-\x1f\x85\u2028\u2029]""")


def significant_sql(code: str) -> str:
    """Return the part of a SQL model's code that can change its rows; the whole code if that is not certain.

    Args:
        code: The code with its Jinja templates.
    """
    names = None if _AMBIGUOUS_ANYWHERE.search(code) else _names_of_words(code)
    if names is None:
        return code
    kept: list[str] = []
    between, end = "", 0
    commented, trimmed = -1, -1  # ends of the last comment, and of the last template that removes the space behind it
    is_spaced = _UNSPACED.search(code) is None
    is_behind_quoted = False  # at most space, comments and templates are between a string and the next piece
    for piece in _PIECE.finditer(code):
        kind, text = piece.lastgroup or "", piece.group()
        between += code[end : piece.start()]
        end = piece.end()
        is_behind_quoted = is_behind_quoted and not between.strip()
        if kind == "quoted" and is_behind_quoted:  # some databases join strings only over a line break
            return code
        if _IS_AMBIGUOUS[kind](_Place(code, piece, between, commented, trimmed, names, is_spaced)):
            return code
        if kind in {"comment", "template_comment"}:
            commented = end
            between += " " * (kind == "comment")
            continue
        is_behind_quoted = kind == "quoted" or (is_behind_quoted and _BRANCH.match(text) is None)
        trimmed = end if text.endswith(("-%}", "-}}")) else trimmed
        kept += [between, text]
        between = ""
    kept.append(between + code[end:])
    if any(map(_AMBIGUOUS.search, kept[::2])):
        return code
    kept[::2] = [_SPACE.sub(" ", text) for text in kept[::2]]
    return "".join(kept).strip(" ")


def _names_of_words(code: str) -> frozenset[str] | None:
    """Return the names that emit words of the code itself; None if a template can emit something else.

    Words can neither open nor close a string or a comment.
    """
    templates = _TEMPLATE.findall(code)
    given = {
        template: found for template in templates if (found := _SET.fullmatch(template) or _FOR.fullmatch(template))
    }
    names = frozenset(found[1] for found in given.values())
    if any(found.re is _FOR and found[2] not in {None, *names} for found in given.values()):
        return None
    if names and names & _from_outside(code):
        return None
    words = names - {found[1] for found in given.values() if found.re is _SET and found[2]}  # not those of lists
    return words if all(template in given or _is_plain(template, names, words) for template in templates) else None


def _is_plain(template: str, names: frozenset[str], words: frozenset[str]) -> bool:
    """Return whether a template emits a table's name, words or nothing, and changes no list."""
    emitted = _NAME.fullmatch(template)
    if emitted and emitted[1] in names:
        return emitted[1] in words
    without_text = _LITERAL.sub("", template)
    if "'" in without_text or '"' in without_text:  # the template ends elsewhere
        return False
    can_change = "(" in without_text and bool(names.intersection(_WORD.findall(without_text)))
    return not can_change and bool(_PLAIN.fullmatch(template) or _CONFIG.fullmatch(without_text))


def _from_outside(code: str) -> set[str]:
    """Return the names that Jinja may look up outside of the code; all if it cannot be parsed."""
    from floe_orchestrator_dagster.product.template_names import names_from_outside  # few models need it

    names = names_from_outside(code)
    return names if names is not None else set(_WORD.findall(code))


class _Place(NamedTuple):
    """A piece of code, and what is before it."""

    code: str
    piece: re.Match[str]
    between: str
    commented: int
    trimmed: int
    names: frozenset[str]
    is_spaced: bool

    @property
    def text(self) -> str:
        return self.piece.group()

    def is_ambiguous_comment(self) -> bool:
        is_part = self.between.endswith(("-", "/")) or _NESTED.search(self.text) is not None
        return is_part or self.is_behind_trimming()

    def is_behind_trimming(self) -> bool:
        """Return whether a template removes the space before the piece. A space in place of a comment vanishes, too."""
        return not self.is_spaced and self._is_space(self.trimmed, self.piece.start())

    def is_ambiguous_template(self) -> bool:
        """Return whether halves of a comment sign surround a template, or it removes the end of a comment's line."""
        trims_before = self.text.startswith(("{%-", "{{-"))
        trims_after = self.text.endswith(("-%}", "-}}")) and not self.is_spaced
        before = self.between.rstrip() if trims_before else self.between
        after = _ANY_SPACE.match(self.code, self.piece.end()) if trims_after else None
        next_ = after.end() if after else self.piece.end()
        if before.endswith(_HALVES) or self.code.startswith(_HALVES, next_):
            return True
        return trims_before and self._is_space(self.commented, self.piece.start())

    def is_ambiguous_quoted(self) -> bool:
        """Return whether a template emits other text than words, or a prefix or a quote directly before the string."""
        return not self.names.issuperset(_NAME.findall(self.text)) or self.is_behind_trimming()

    def _is_space(self, start: int, end: int) -> bool:
        return start >= 0 and not self.code[start:end].strip()


_IS_AMBIGUOUS = {
    "comment": _Place.is_ambiguous_comment,
    "template_comment": _Place.is_behind_trimming,
    "template": _Place.is_ambiguous_template,
    "quoted": _Place.is_ambiguous_quoted,
}
