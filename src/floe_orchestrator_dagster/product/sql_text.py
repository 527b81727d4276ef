"""Code of dbt models without comments and with uniform whitespace, for comparisons.

Comments and whitespace are only left out where they have no meaning on any database. All other code is compared as it
is. A model that is wrongly found changed is built once too often. A model that is wrongly found unchanged would keep
wrong rows.
"""

from __future__ import annotations

import re

_PIECE = re.compile(
    r"""
    (?=[-/{'"`])(?:  # faster than trying each alternative at each character
    (?P<template_comment>\{\#(?!-)(?:(?!\#\}).)*(?<!-)\#\})
    | (?P<template>\{\{.*?\}\}|\{%.*?%\})
    | (?P<quoted>(?<!\w)'(?:[^'\\{]|'')*'(?!')|(?<!\w)"(?:[^"\\{]|"")*"(?!")|`[^`\\{]*`)
    | (?P<comment>--(?=\s|$)[^\n]*|/\*(?!M?[+!]).*?\*/)
    )
    """,
    re.VERBOSE | re.DOTALL,
)
# Templates that emit the name of a table or nothing, and conditions, which select the text between them.
_PLAIN = re.compile(
    r"""
    \{\{\s*(?:this|(?:ref|source)\((?:\s*(?:'[\w.-]+'|"[\w.-]+")\s*,?)+\s*\)|config\([^{}%]*\))\s*\}\}
    | \{%\s*(?:if|elif)\b[^{}%]*%\}
    | \{%\s*(?:else|endif)\s*%\}
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"\s+", re.ASCII)
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# Templates and comments in a comment.
_NESTED = re.compile(r"\{[{%#]|(?!^)/\*")
# Characters that only some databases read as comments, escapes or strings. A quote is here because its end may be in a
# template.
_AMBIGUOUS = re.compile(r"""--|//|/\*|\*/|[\#\\$'"`\[]""")
# Halves of comment signs. A template between two halves can emit nothing, so that they form `--`, `/*` or `*/`.
_HALVES = ("-", "/", "*")
# Triple quotes are strings, and a single carriage return is a line break, on some databases only.
_AMBIGUOUS_ANYWHERE = re.compile(r"""'{3}|"{3}|\r(?!\n)""")


def significant_sql(code: str) -> str:
    """Return the part of a SQL model's code that can change its rows; the whole code if that is not certain.

    Args:
        code: The code with its Jinja templates.
    """
    if _AMBIGUOUS_ANYWHERE.search(code) or not all(map(_PLAIN.fullmatch, _TEMPLATE.findall(code))):
        return code
    kept: list[str] = []
    between, end = "", 0
    for piece in _PIECE.finditer(code):
        kind, text = piece.lastgroup, piece.group()
        between += code[end : piece.start()]
        end = piece.end()
        if kind == "comment":
            if between.endswith(("-", "/")) or _NESTED.search(text):
                return code
            between += " "
        elif kind != "template_comment":
            if kind == "template" and (between.endswith(_HALVES) or code.startswith(_HALVES, end)):
                return code
            kept += [between, text]
            between = ""
    kept.append(between + code[end:])
    if any(map(_AMBIGUOUS.search, kept[::2])):
        return code
    kept[::2] = [_SPACE.sub(" ", text) for text in kept[::2]]
    return "".join(kept).strip()
