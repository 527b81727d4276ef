"""Fixes for dbt's own errors."""

from __future__ import annotations

import re

import click

from floe_orchestrator_dagster.errors import DbtBuildError, DbtSetupError

# What a message (or the exception's type) contains → what to do, and whether it may be gone at the next try
# (DbtBuildError) or not (DbtSetupError). The first that fits counts.
_ADVICE: tuple[tuple[str, type[DbtBuildError], str], ...] = (
    (
        r"Could not set lock on file|Conflicting lock is held",
        DbtBuildError,
        (
            "Another process has the DuckDB file open: close it (a database client, a dbt in a terminal), or give it "
            "another file."
        ),
    ),
    (
        r"require-dbt-version|This version of dbt is not supported",
        DbtSetupError,
        "Install a dbt-core that the project accepts, or change `require-dbt-version` in its dbt_project.yml.",
    ),
    (
        r"Could not find adapter type|No module named 'dbt\.adapters",
        DbtSetupError,
        "Install the adapter of this warehouse, such as dbt-duckdb, in the environment that Dagster runs in.",
    ),
    (
        r"Env var required but not provided",
        DbtSetupError,
        "Set the variable where Dagster's runs get their environment.",
    ),
    (
        (
            r"[Aa]uthentication failed|password authentication|Incorrect username or password|[Aa]ccess denied|"
            r"not authorized|Unauthorized"
        ),
        DbtSetupError,
        "The warehouse refuses these credentials: correct the variables that the profile reads.",
    ),
    (
        (
            r"[Cc]onnection refused|could not translate host name|[Nn]ame or service not known|\btimed? ?out\b|"
            r"[Nn]o route to host|Network is unreachable|could not connect|server closed the connection"
        ),
        DbtBuildError,
        "The warehouse does not answer: check its address in the profile, the network, and whether it is running.",
    ),
    (
        r"No space left on device|[Dd]isk (is )?full",
        DbtBuildError,
        "Free space where the database or the target directory lies.",
    ),
    (
        r"[Pp]ermission denied for",
        DbtSetupError,
        "Grant this right in the warehouse to the user that the profile names.",
    ),
    (
        r"[Pp]ermission denied|[Rr]ead-only file system",
        DbtSetupError,
        "Let the user that runs Dagster write there, or set FLOE_STATE_DIR to a directory that can be written.",
    ),
    (
        r"dbt deps|packages? .*(not installed|missing)|dbt_packages",
        DbtSetupError,
        "Run `floe-dagster prepare`, which installs the project's packages.",
    ),
    (
        r"\b[Ff]usion\b",
        DbtSetupError,
        "The project asks for the dbt Fusion engine; floe runs dbt Core: remove what only Fusion knows.",
    ),
    (
        r"Compilation|Parsing|Yaml|ParsingError",
        DbtSetupError,
        "Correct the project; `floe-dagster prepare` shows the same error.",
    ),
    (r"UsageException", DbtSetupError, "Correct the options of the run."),
)
_OTHERWISE = "The step's captured output holds dbt's own log."


def diagnosed(origin: str, error_type: str, error: str) -> DbtBuildError:
    """Make an error of what ended dbt, with what to do about it.

    Args:
        origin: The project's directory.
        error_type: The type of dbt's exception.
        error: Its text.

    Returns:
        A DbtSetupError when dbt would end so again.
    """
    text = click.unstyle(error).strip()
    known = ((kind, fix) for pattern, kind, fix in _ADVICE if re.search(pattern, f"{error_type} {text}"))
    kind, fix = next(known, (DbtBuildError, _OTHERWISE))
    return kind(f"{origin}: dbt could not do its work: {text}\n    fix: {fix}")
