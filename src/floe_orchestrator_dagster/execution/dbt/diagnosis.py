"""Fixes for dbt's errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import click

from floe_orchestrator_dagster.errors import DbtBuildError, DbtSetupError

if TYPE_CHECKING:
    from collections.abc import Mapping

EngineKind = Literal["core", "v2"]

NOT_RESPONDING = (
    "The warehouse does not respond. Check its address in the profile, the network, and whether it is running."
)
"""The fix for a connection that the warehouse refuses or closes."""
_UNREACHABLE = (
    r"[Cc]onnection (was |has been )?(refused|lost|reset|aborted|closed|broken)\b|"
    r"([Cc]ould not|[Cc]an't|[Cc]annot|[Ff]ailed to|[Uu]nable to) connect\b|TTransportException|[Bb]roken pipe|"
    r"could not translate host name|[Nn]ame or service not known|[Nn]o route to host|"
    r"Network is unreachable|server closed the connection|[Cc]onnection (attempt )?timed out"
)
# Pattern of a message or exception type, class of the error (DbtBuildError if a retry can succeed, else DbtSetupError),
# and fix, or the fix by engine. The first matching entry is used.
_ADVICE: tuple[tuple[str, type[DbtBuildError], str | Mapping[EngineKind, str]], ...] = (
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
        {
            "core": "Install a dbt-core that the project accepts, or change `require-dbt-version` in dbt_project.yml.",
            "v2": (
                "Set dbt.executable to a dbt v2 that the project accepts or dbt.engine to core, or change "
                "`require-dbt-version` in dbt_project.yml."
            ),
        },
    ),
    (
        r"Could not find adapter type|No module named 'dbt\.adapters",
        DbtSetupError,
        {
            "core": "Install the adapter of this warehouse, such as dbt-duckdb, in the environment of Dagster.",
            "v2": "dbt v2 has its adapters built in. For others, install dbt-core and set dbt.engine to core.",
        },
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
    (rf"{_UNREACHABLE}|\btimed? ?out\b", DbtBuildError, NOT_RESPONDING),
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
        {
            "core": "The project requires dbt Fusion. Set dbt.engine to v2, or remove what only Fusion supports.",
            "v2": "Remove what dbt v2 does not support, or install dbt-core and set dbt.engine to core.",
        },
    ),
    (
        r"Compilation|Parsing|Yaml|ParsingError",
        DbtSetupError,
        "Correct the project; `floe-dagster prepare` shows the same error.",
    ),
    (r"UsageException", DbtSetupError, "Correct the options of the run."),
)
_OTHERWISE = "See dbt's log in the step's captured output."
# A line of a Java stack trace, which warehouses on a JVM such as Spark append to their messages.
_JVM_FRAME = re.compile(
    r"\s+(at [\w$<>@-]*[./][\w.$/<>@-]+\([^()]*\)(\s+~?\[[^\]]*\])?|\.\.\. \d+ (more|common frames omitted))\s*"
)


def diagnosed(origin: str, error_type: str, error: str, engine: EngineKind = "core") -> DbtBuildError:
    """Create the error for an exception of dbt, with the fix.

    Args:
        origin: The project's directory.
        error_type: The type of dbt's exception.
        error: The message of dbt's exception.
        engine: The engine whose exception it is.

    Returns:
        A DbtSetupError if a retry would fail in the same way.
    """
    text = plain_message(error)
    known = ((kind, fix) for pattern, kind, fix in _ADVICE if re.search(pattern, f"{error_type} {text}"))
    kind, fixes = next(known, (DbtBuildError, _OTHERWISE))
    fix = fixes if isinstance(fixes, str) else fixes[engine]
    return kind(f"{origin}: dbt failed: {text}\n    fix: {fix}")


def is_unreachable(message: str) -> bool:
    """Return whether a message says that the warehouse refuses or closes the connection."""
    return re.search(_UNREACHABLE, message) is not None


def plain_message(text: str) -> str:
    """Return a message of dbt without colours and without the frames of Java stack traces."""
    plain = click.unstyle(text).strip()
    if "\tat " not in plain and " at " not in plain:
        return plain
    lines = plain.splitlines()
    kept = [line for line in lines if not _JVM_FRAME.fullmatch(line)]
    return plain if len(kept) == len(lines) else "\n".join(line for line in kept if line.strip())
