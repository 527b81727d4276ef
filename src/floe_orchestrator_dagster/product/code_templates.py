"""Jinja templates in the code of dbt nodes and macros, found without a parser."""

from __future__ import annotations

import re

TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{\#.*?\#\}", re.DOTALL)
"""A template, or a comment of one."""
_EDGES = re.compile(r"\{[{%#]|[}%#]\}")
_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
# A call of `config` with literals, after their removal. Settings with templates are searched, too.
_CONFIG = re.compile(r"\{\{[-+]?\s*config\s*\([\w\s=,:.\[\]{}-]*\)\s*[-+]?\}\}")


def templates_in(code: str) -> list[str]:
    """Return the templates in code, without comments; all of the code if a template may contain another one."""
    if "{" not in code:
        return []
    templates = [template for template in TEMPLATE.findall(code) if not template.startswith("{#")]
    return [code] if _EDGES.search(TEMPLATE.sub("", code)) else templates


def without_prose(code: str) -> str:
    """Return the templates in code without literals that name nothing: sentences, and settings in `config`."""
    templates = templates_in(code)
    if not all(map(TEMPLATE.fullmatch, templates)):  # one contains another one
        return " ".join(templates)
    return " ".join(map(_template_without_prose, templates))


def _template_without_prose(template: str) -> str:
    settings = _LITERAL.sub(_only_templates, template)
    if _CONFIG.fullmatch(_LITERAL.sub("", template)):
        return settings
    return _LITERAL.sub(lambda literal: _only_templates(literal) if " " in literal[0] else literal[0], template)


def _only_templates(literal: re.Match[str]) -> str:
    return literal[0] if "{" in literal[0] else ""
