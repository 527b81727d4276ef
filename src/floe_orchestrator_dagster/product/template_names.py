"""Names in Jinja templates that always hold tables of ``ref`` and ``source``: assigned ones, and macros' parameters."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ASSIGNS = re.compile(r"\{%[-+]?\s*(?:set|for)\b")
_CALLS_OF_TABLES = frozenset({"ref", "source"})
# Statements that assign names in other ways, or run code of another file.
_OTHER_STATEMENTS = (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.With, nodes.Import, nodes.FromImport)


def parse_template(code: str) -> nodes.Template | None:
    """Parse a template without rendering it; None if it is not valid, or has statements that only dbt knows."""
    environment = Environment(extensions=["jinja2.ext.do"])  # noqa: S701  # nothing is rendered
    environment.globals.clear()  # they are names from outside, too
    try:
        return environment.parse(code)
    except (TemplateSyntaxError, RecursionError):
        return None


def names_from_outside(tree: nodes.Template) -> set[str]:
    """Return the names that Jinja may look up outside of a template, also if another part of it assigns them."""
    return meta.find_undeclared_variables(tree)


def names_of_tables(code: str) -> frozenset[str]:
    """Return the names that hold a table of ``ref`` or ``source`` wherever a template uses them.

    ``set`` assigns them, or a loop over such tables: ``{% for table in [ref('a'), ref('b')] %}``. Such a list may have
    a name itself, if the template only uses that name in loops, and can therefore not change the list.
    """
    tree = parse_template(code) if _ASSIGNS.search(code) else None
    if tree is None or any(tree.find_all(_OTHER_STATEMENTS)):
        return frozenset()
    stored = Counter(name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
    if not _CALLS_OF_TABLES.isdisjoint(stored):
        return frozenset()
    loaded = Counter(name.name for name in tree.find_all(nodes.Name) if name.ctx == "load")
    assignments, loops = list(tree.find_all(nodes.Assign)), list(tree.find_all(nodes.For))
    looped = Counter(_name(loop.iter) for loop in loops)
    listed = Counter(_name(one.target) for one in assignments if _is_list(one.node))
    lists = {name for name, count in listed.items() if count == stored[name] and loaded[name] == looped[name]}
    tables = Counter(_name(one.target) for one in assignments if _is_table(one.node))
    plain = (loop for loop in loops if not loop.recursive)
    tables.update(_name(loop.target) for loop in plain if _is_list(loop.iter) or _name(loop.iter) in lists)
    outside = names_from_outside(tree)
    return frozenset(name for name, count in tables.items() if count == stored[name] and name not in outside)


def parameters_with_tables(macro: str, code: str, texts: Iterable[str]) -> frozenset[str]:
    """Return the parameters of a macro to which each call passes a table of ``ref`` or ``source``.

    Args:
        macro: The macro's name.
        code: The macro's code.
        texts: All texts with templates that may call the macro, with its own code. If one of them uses the macro's name
            in another way, or cannot be parsed, no parameter is known.
    """
    tree = parse_template(code)
    own = list(tree.find_all(nodes.Macro)) if tree is not None else []
    if tree is None or [one.name for one in own] != [macro] or any(map(_binds_otherwise, tree.find_all(nodes.Node))):
        return frozenset()
    parameters = [parameter.name for parameter in own[0].args]
    known = set(parameters) - {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    for text in texts:
        if macro in text:
            known &= _tables_passed(macro, parameters, text)
    return frozenset(known)


def _binds_otherwise(node: nodes.Node) -> bool:
    return isinstance(node, (nodes.With, nodes.Import, nodes.FromImport)) or (
        isinstance(node, nodes.CallBlock) and bool(node.args)
    )


def _tables_passed(macro: str, parameters: Sequence[str], text: str) -> set[str]:
    """Return the parameters to which each call in a text passes a table; none if the name is used in another way."""
    tree = parse_template(text)
    if tree is None:
        return set()
    calls = [call for call in tree.find_all(nodes.Call) if _uses(macro, call.node)]
    if sum(_uses(macro, node) for node in tree.find_all(nodes.Node)) != len(calls):
        return set()
    tables, known = names_of_tables(text), set(parameters)
    for call in calls:
        given = dict(zip(parameters, call.args, strict=False)) | {named.key: named.value for named in call.kwargs}
        known &= {name for name, value in given.items() if _is_table(value) or _name(value) in tables}
        if call.dyn_args or call.dyn_kwargs:
            return set()
    return known


def _uses(name: str, node: nodes.Node) -> bool:
    """Return whether a node of the syntax tree is a name, or a text that is one or may contain a template with it."""
    if isinstance(node, nodes.Const):
        return isinstance(node.value, str) and (node.value == name or ("{" in node.value and name in node.value))
    return _name(node) == name or (isinstance(node, nodes.Getattr) and node.attr == name)


def _name(node: nodes.Node) -> str:
    """Return the name of a node that is one; otherwise text that is no name."""
    return node.name if isinstance(node, nodes.Name) else ""


def _is_table(node: nodes.Node) -> bool:
    if not isinstance(node, nodes.Call) or _name(node.node) not in _CALLS_OF_TABLES or not node.args:
        return False
    given = [*node.args, *(argument.value for argument in node.kwargs)]
    return not node.dyn_args and not node.dyn_kwargs and all(isinstance(value, nodes.Const) for value in given)


def _is_list(node: nodes.Node) -> bool:
    return isinstance(node, (nodes.List, nodes.Tuple)) and bool(node.items) and all(map(_is_table, node.items))
