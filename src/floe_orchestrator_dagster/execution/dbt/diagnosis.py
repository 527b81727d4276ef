"""Fixes for dbt's errors."""

from __future__ import annotations

import re

import click

from floe_orchestrator_dagster.errors import DbtBuildError, DbtSetupError

# Pattern of a message or exception type, class of the error (DbtBuildError if a retry can succeed, else DbtSetupError),
# and fix. The first matching entry is used.
_ADVICE: tuple[tuple[str, type[DbtBuildError], str], ...] = (
    (
        r"Could not set lock on file|Conflicting lock is held",
        DbtBuildError,
        (
            "Another process has opened the DuckDB file. Close it (a database client, a dbt in a terminal), or give it "
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
        "The warehouse rejects the credentials. Correct the variables that the profile reads.",
    ),
    (
        (
            r"[Cc]onnection refused|could not translate host name|[Nn]ame or service not known|\btimed? ?out\b|"
            r"[Nn]o route to host|Network is unreachable|could not connect|server closed the connection"
        ),
        DbtBuildError,
        "The warehouse does not respond. Check its address in the profile, the network, and whether it is running.",
    ),
    (
        r"No space left on device|[Dd]isk (is )?full",
        DbtBuildError,
        "Free disk space for the database and the target directory.",
    ),
    (
        r"[Pp]ermission denied for",
        DbtSetupError,
        "Grant this permission in the warehouse to the user in the profile.",
    ),
    (
        r"[Pp]ermission denied|[Rr]ead-only file system",
        DbtSetupError,
        "Let the user that runs Dagster write there, or set FLOE_STATE_DIR to a writable directory.",
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
_OTHERWISE = "See dbt's log in the step's captured output."


def diagnosed(origin: str, error_type: str, error: str) -> DbtBuildError:
    """Create the error for an exception of dbt, with the fix.

    Args:
        origin: The project's directory.
        error_type: The type of dbt's exception.
        error: The message of dbt's exception.

    Returns:
        A DbtSetupError if a retry would fail in the same way.
    """
    text = click.unstyle(error).strip()
    known = ((kind, fix) for pattern, kind, fix in _ADVICE if re.search(pattern, f"{error_type} {text}"))
    kind, fix = next(known, (DbtBuildError, _OTHERWISE))
    return kind(f"{origin}: dbt failed: {text}\n    fix: {fix}")
