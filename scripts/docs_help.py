"""Hook of the documentation site: the help of every command, at the end of the page on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.structure.pages import Page

_PAGE = "reference/command-line.md"
_WIDTH = 100


def on_page_markdown(markdown: str, *, page: Page, **_others: object) -> str:
    """Add the help of the commands to their page."""
    if page.file.src_uri != _PAGE:
        return markdown
    return "\n".join([markdown, "\n## Help of every command\n", *_helps(main, "floe-dagster")])


def _helps(command: click.Command, name: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _helps(inner, f"{name} {inner.name}")
        return
    with click.Context(command, info_name=name, max_content_width=_WIDTH, terminal_width=_WIDTH) as context:
        yield f"### `{name}`\n\n```text\n{command.get_help(context)}\n```\n"
