"""Hooks of the documentation site: the help of every command on its page, and references in docstrings as names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.structure.pages import Page

_PAGE = "reference/command-line.md"
_WIDTH = 100
# Markup of reStructuredText in docstrings: `:class:`, here already rendered as Markdown, and `.. code-block::`.
_ROLE = re.compile(r":\w+:<code>~?(?:[\w.]+\.)?(\w+)</code>")
_CODE_BLOCK = re.compile(r"<p>\.\. code-block:: \w+</p>\n?")


def on_page_markdown(markdown: str, *, page: Page, **_others: object) -> str:
    """Add the help of the commands to their page."""
    if page.file.src_uri != _PAGE:
        return markdown
    return "\n".join([markdown, "\n## Help of every command\n", *_helps(main, "floe-dagster")])


def on_page_content(html: str, **_others: object) -> str:
    """Show references in docstrings as names."""
    return _CODE_BLOCK.sub("", _ROLE.sub(r"<code>\1</code>", html))


def _helps(command: click.Command, name: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _helps(inner, f"{name} {inner.name}")
        return
    with click.Context(command, info_name=name, max_content_width=_WIDTH, terminal_width=_WIDTH) as context:
        yield f"### `{name}`\n\n```text\n{command.get_help(context)}\n```\n"
