"""Code of dbt nodes whose reads and settings are the same for all values of variables.

dbt finds the parents and the settings of a node by rendering its code. The manifest has those for the default values of
variables. They hold for all values if each call of ``ref``, ``source`` and ``config`` has constant arguments and is
outside of conditions, loops and macros.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import nodes

# Functions that declare what a node reads, and its settings.
_DECLARING = frozenset({"config", "function", "metric", "ref", "source"})
# Names by which code can reach these functions, or other nodes, in another way.
_INDIRECT = frozenset({"attr", "builtins", "context", "graph", "render"})
_WATCHED = _DECLARING | _INDIRECT
_WORD = re.compile(r"\w+")
# Parts of a template that are rendered exactly once, whatever values variables have.
_UNCONDITIONAL = frozenset({
    "Add", "Assign", "AssignBlock", "Call", "Concat", "Dict", "ExprStmt", "Filter", "Getattr", "Getitem", "Keyword",
    "List", "Output", "Pair", "Template", "Tuple"
})  # fmt: skip
_CONSTANT = frozenset({"Const", "Dict", "Keyword", "List", "Neg", "Pair", "Tuple"})


@lru_cache(maxsize=10_000)
def has_fixed_calls(code: str) -> bool:
    """Return whether a node's code certainly reads the same, with the same settings, for all values of variables."""
    from jinja2 import Environment, TemplateSyntaxError, nodes  # few models need it

    environment = Environment(extensions=["jinja2.ext.do"])  # noqa: S701  # nothing is rendered
    try:
        tree = environment.parse(code)
    except (TemplateSyntaxError, RecursionError):  # such as one of dbt's own blocks
        return False
    if any(tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
        return False
    waiting: list[tuple[nodes.Node, bool]] = [(tree, True)]
    while waiting:  # without recursion, because expressions may be deep
        node, is_unconditional = waiting.pop()
        if isinstance(node, nodes.Name | nodes.Filter) and node.name in _WATCHED:
            return False
        children = node.iter_child_nodes()
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in _DECLARING:
            if not is_unconditional or not _is_constant(node):
                return False
            continue
        is_unconditional = is_unconditional and type(node).__name__ in _UNCONDITIONAL
        waiting.extend((child, is_unconditional) for child in children)
    return True


def declares_nothing(template: str) -> bool:
    """Return whether a template in a macro or a setting certainly declares no parent and no setting of a node."""
    return _WATCHED.isdisjoint(_WORD.findall(template))


def _is_constant(call: nodes.Call) -> bool:
    given = [*call.args, *call.kwargs]
    if call.dyn_args is not None or call.dyn_kwargs is not None:
        return False
    while given:
        part = given.pop()
        if type(part).__name__ not in _CONSTANT:
            return False
        given.extend(part.iter_child_nodes())
    return True
