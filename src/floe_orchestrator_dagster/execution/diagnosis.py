"""What dbt's own errors mean for the one who runs it here."""

from __future__ import annotations

import re

import click

# What a message (or the exception's type) contains → what to do. The first that fits counts.
_ADVICE = (
    (
        r"Could not set lock on file|Conflicting lock is held",
        (
            "Another process has the DuckDB file open: close it (a database client, a dbt in a terminal), or give it "
            "another file."
        ),
    ),
    (
        r"require-dbt-version|This version of dbt is not supported",
        "Install a dbt-core that the project accepts, or change `require-dbt-version` in its dbt_project.yml.",
    ),
    (
        r"Could not find adapter type|No module named 'dbt\.adapters",
        "Install the adapter of this warehouse, such as dbt-duckdb, in the environment that Dagster runs in.",
    ),
    (
        r"Env var required but not provided",
        "Set the variable where Dagster's runs get their environment.",
    ),
    (
        (
            r"[Aa]uthentication failed|password authentication|Incorrect username or password|[Aa]ccess denied|"
            r"not authorized|Unauthorized"
        ),
        "The warehouse refuses these credentials: correct the variables that the profile reads.",
    ),
    (
        (
            r"[Cc]onnection refused|could not translate host name|[Nn]ame or service not known|timed? ?out|"
            r"[Nn]o route to host|Network is unreachable|could not connect|server closed the connection"
        ),
        "The warehouse does not answer: check its address in the profile, the network, and whether it is running.",
    ),
    (
        r"No space left on device|[Dd]isk (is )?full",
        "Free space where the database or the target directory lies.",
    ),
    (
        r"[Pp]ermission denied|[Rr]ead-only file system",
        "Let the user that runs Dagster write there, or set FLOE_STATE_DIR to a directory that can be written.",
    ),
    (
        r"dbt deps|packages? .*(not installed|missing)|dbt_packages",
        "Run `floe-dagster prepare`, which installs the project's packages.",
    ),
    (
        r"fusion|Fusion",
        "The project asks for the dbt Fusion engine; floe runs dbt Core: remove what only Fusion knows.",
    ),
    (r"Compilation|Parsing|Yaml|ParsingError", "Correct the project; `floe-dagster prepare` shows the same error."),
    (r"UsageException", "Correct the options of the run."),
)
_OTHERWISE = "The step's captured output holds dbt's own log."


def advice(error_type: str, error: str) -> str:
    """Tell an error that ended dbt, and what to do about it."""
    text = click.unstyle(error).strip()
    fix = next((fix for pattern, fix in _ADVICE if re.search(pattern, f"{error_type} {text}")), _OTHERWISE)
    return f"dbt could not do its work: {text}\n    fix: {fix}"
