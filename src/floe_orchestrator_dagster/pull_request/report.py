"""Result of a pull request's build: nodes with their reasons and results, and tables before and after."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.pull_request.warehouse import TableStats

NOT_RUN = "not run"
_STYLES = {"succeeded": "green", "failed": "red"}
_MARKUP = re.compile(r"[&<>|@`*_\[\]!#~\\]")


@dataclass(frozen=True)
class NodeReport:
    """A node of a pull request's build.

    Attributes:
        unique_id: dbt's unique id.
        name: Its name.
        resource_type: ``model``, ``seed``, ``snapshot``, ``test`` or ``unit_test``.
        is_changed: Whether it differs from production itself.
        reason: Why it was selected.
        status: dbt's status; ``not run`` without one.
        ending: ``succeeded``, ``failed``, ``skipped`` or ``not run``.
        message: dbt's message; for a skipped node, the failure that caused it.
        seconds: Duration.
        query: Query of a test that failed; empty for other nodes.
        started_from: The rows that an incremental model or snapshot had before the build; empty for other nodes.
        before: Columns and rows in production; None if the table does not exist there or was not queried.
        after: Columns and rows of the built table; None without one.
    """

    unique_id: str
    name: str
    resource_type: str
    is_changed: bool
    reason: str
    status: str = NOT_RUN
    ending: str = NOT_RUN
    message: str = ""
    seconds: float = 0.0
    query: str = ""
    started_from: str = ""
    before: TableStats | None = None
    after: TableStats | None = None

    @property
    def is_test(self) -> bool:
        """Whether it is a test."""
        return self.resource_type in {"test", "unit_test"}

    @property
    def column_changes(self) -> list[str]:
        """The differences between the columns before and after the change."""
        if self.before is None or self.after is None:
            return []
        before, after = self.before.columns, self.after.columns
        return [
            *(f"+ {name} {kind}" for name, kind in after.items() if name not in before),
            *(f"- {name} {kind}" for name, kind in before.items() if name not in after),
            *(
                f"{name} {before[name]} -> {after[name]}"
                for name in after
                if before.get(name, after[name]) != after[name]
            ),
        ]


@dataclass(frozen=True)
class BuildReport:
    """The result of a pull request's build.

    Attributes:
        product: The product's name.
        production: The state with which it was compared.
        destination: The destination of its tables.
        nodes: Models, seeds, snapshots and tests, in the order of their completion.
        removed: Names of removed nodes, each with the names of the nodes that read it.
        notes: Other remarks, such as what was not removed.
        errors: Failures outside of nodes.
        seconds: Duration of dbt's build.
        saved_seconds: Time that production needed for the nodes that were not built; None when it is unknown.
    """

    product: str
    production: str
    destination: str = ""
    nodes: Sequence[NodeReport] = ()
    removed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    errors: Sequence[str] = ()
    seconds: float = 0.0
    saved_seconds: float | None = None

    @property
    def succeeded(self) -> bool:
        """Whether all nodes were built and all tests passed."""
        return not self.errors and all(node.ending == "succeeded" for node in self.nodes)

    @property
    def tables(self) -> list[NodeReport]:
        """Models, seeds and snapshots."""
        return [node for node in self.nodes if not node.is_test]

    @property
    def tests(self) -> list[NodeReport]:
        """Tests."""
        return [node for node in self.nodes if node.is_test]

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        nodes = [{**asdict(node), "column_changes": node.column_changes} for node in self.nodes]
        return {"succeeded": self.succeeded, **asdict(self), "nodes": nodes}

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        if not self.nodes:
            return "nothing to build: no model, seed, snapshot or test differs from production"
        changed = sum(node.is_changed for node in self.tables)
        tables, tests = len(self.tables), len(self.tests)
        counts = [
            f"{changed} changed and {tables - changed} affected {'table' if tables == 1 else 'tables'}",
            counted(tests, "test"),
        ]
        ended = {ending: sum(node.ending == ending for node in self.nodes) for ending in ("failed", "skipped", NOT_RUN)}
        counts += [f"{count} {ending}" for ending, count in ended.items() if count]
        return ", ".join([*counts, *([] if self.succeeded else ["not successful"])])

    @property
    def times(self) -> str:
        """The duration, and the time saved beside a full build; empty without a build."""
        if not self.nodes:
            return ""
        saved = (
            ""
            if self.saved_seconds is None
            else f"; the nodes that were not built took {self.saved_seconds:.0f} s in production"
        )
        return f"built in {self.seconds:.0f} s{saved}"


def shown_rows(node: NodeReport) -> str:
    """Return the numbers of rows before and after, such as ``100 -> 120 (+20)``; empty when they are unknown."""
    before, after = node.before, node.after
    if after is None:
        return "" if before is None else f"{before.rows} -> ?"
    if before is None:
        return f"new: {after.rows}"
    difference = after.rows - before.rows
    return f"{before.rows} -> {after.rows} ({difference:+d})" if difference else f"{after.rows} (same)"


def as_text(report: BuildReport) -> Iterator[tuple[str, str]]:
    """Yield the lines of the report for people, each with its style for rich."""
    yield f"{report.product}: {report.headline}", "bold green" if report.succeeded else "bold red"
    if report.times:
        yield f"  {report.times}, in {report.destination}, compared with {report.production}", ""
    for title, nodes in (("tables", report.tables), ("tests", report.tests)):
        if nodes:
            yield f"\n{title}", "bold"
        width = max((len(node.name) for node in nodes), default=0)
        for node in nodes:
            facts = [node.reason, node.started_from, shown_rows(node), *node.column_changes]
            line = f"  {node.name:<{width}}  {node.status:<8} {'; '.join(filter(None, facts))}".rstrip()
            yield line, _STYLES.get(node.ending, "yellow")
            if node.ending != "succeeded":
                yield from ((f"      {line}", "") for line in node.message.splitlines())
                yield from ((f"      | {line}", "dim") for line in node.query.strip().splitlines())
    if report.removed:
        yield "\nremoved", "bold"
    for name, read_by in report.removed.items():
        readers = f"; production has these readers: {', '.join(read_by)}" if read_by else ""
        yield f"  {name} is removed{readers}", ""
    if report.errors or report.notes:
        yield "", ""
    yield from ((f"error: {error}", "red") for error in report.errors)
    yield from ((f"note: {note}", "") for note in report.notes)


def as_markdown(report: BuildReport) -> Iterator[str]:
    """Yield the lines of the report as Markdown, for a comment on the pull request."""
    yield f"### {'✅' if report.succeeded else '❌'} {report.product}: {report.headline}"
    yield ""
    if report.times:
        yield f"{report.times.capitalize()}, compared with {_code(report.production)}."
        yield ""
    if report.tables:
        yield "| | Table | Reason | Result | Rows | Columns |"
        yield "|---|---|---|---|---|---|"
        for node in report.tables:
            columns = "<br>".join(map(_code, node.column_changes))
            result = ", ".join(filter(None, [node.status, node.started_from]))
            cells = (_sign(node), _code(node.name), _plain(node.reason), _plain(result), shown_rows(node), columns)
            yield f"| {' | '.join(cells)} |"
        yield ""
    passed = sum(test.ending == "succeeded" for test in report.tests)
    if report.tests:
        yield f"{passed} of {len(report.tests)} tests passed."
        yield ""
    for node in report.nodes:
        if node.ending == "failed":
            yield from _details(node)
    if report.removed:
        yield "**Removed**\n"
    for name, read_by in report.removed.items():
        readers = f"; production has these readers: {', '.join(map(_code, read_by))}" if read_by else ""
        yield f"- {_code(name)} is removed{readers}"
    for error in report.errors:
        yield from ("Error:", "", *_block("", error))
    yield from (f"- note: {_plain(note)}" for note in report.notes)


def _details(node: NodeReport) -> Iterator[str]:
    yield f"<details><summary>{_sign(node)} {_code(node.name)}: {_plain(node.status)}</summary>"
    yield ""
    yield from _block("", node.message)
    if node.query:
        yield from _block("sql", node.query)
    yield "</details>"
    yield ""


def _block(language: str, text: str) -> Iterator[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    yield from (f"{fence}{language}", text.strip(), fence, "")


def _sign(node: NodeReport) -> str:
    return {"succeeded": "✅", "failed": "❌"}.get(node.ending, "⏭️")


def _code(text: str) -> str:
    """Return text in the font of code, which a table and HTML show as it is."""
    return f"<code>{_plain(text)}</code>"


def _plain(text: str) -> str:
    """Return one line without markup: HTML, tables, links and names of users have no effect in it."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))
