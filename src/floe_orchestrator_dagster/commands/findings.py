"""Problems and warnings of a product, loaded and printed for ``validate`` and ``plan``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import click

from floe_orchestrator_dagster.commands.answers import artifacts_path, echo_message, progress
from floe_orchestrator_dagster.errors import FloeDagsterError, Problem
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.inspect.validation import Findings


def examine(artifacts: Path | None, *, parses: bool) -> Findings:
    """Load the product and collect its problems and warnings; ``parses`` includes those of a parse by dbt v2."""
    # dbt's node selection writes to standard output, which is for the command's result only.
    with progress("Loading the product"), redirect_stdout(sys.stderr):
        from floe_orchestrator_dagster.inspect.validation import Findings, examine_product

        try:
            path = artifacts_path(artifacts)
        except FloeDagsterError as error:
            return Findings(errors=(error,))
        return examine_product(path, parses=parses)


def echo_findings(findings: Findings) -> None:
    """Print problems and warnings to standard error, and the number of problems of several files."""
    for error in findings.errors:
        echo_message("error", error)
    for remark in findings.warnings:
        file = f"{remark.file}: " if remark.file else ""
        echo_message("warning", f"{file}{remark}")
    if len(findings.errors) > 1:
        count = sum(len(_problems(error)) for error in findings.errors)
        click.echo(counted(count, "problem"), err=True)


def findings_as_json(findings: Findings) -> dict[str, object]:
    """Return the JSON object that ``validate --json`` prints."""
    problems = [_as_record(error.origin, problem) for error in findings.errors for problem in _problems(error)]
    return {"valid": findings.loaded is not None, "problems": problems, "warnings": warnings_as_json(findings)}


def warnings_as_json(findings: Findings) -> list[dict[str, str]]:
    """Return the warnings as JSON objects."""
    return [_as_record(remark.file, remark.problem) for remark in findings.warnings]


def _as_record(file: str, problem: Problem) -> dict[str, str]:
    return {"file": file, "where": problem.where, "what": problem.what, "fix": problem.fix}


def _problems(error: FloeDagsterError) -> Sequence[Problem]:
    return error.problems or (Problem("", str(error), ""),)
