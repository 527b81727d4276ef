"""Fixes for dbt's errors, and whether a retry can succeed."""

from __future__ import annotations

from typing import get_args

import pytest

from floe_orchestrator_dagster.execution.dbt.diagnosis import EngineKind, diagnosed


@pytest.mark.parametrize(
    ("error_type", "error", "fix", "retryable"),
    [
        ("DbtRuntimeError", 'IO Error: Could not set lock on file "/x.duckdb": Conflicting lock', "Close it", True),
        (
            "DbtProjectError",
            "This version of dbt is not supported with the 'shop' package.",
            "Install a dbt-core that",
            False,
        ),
        ("DbtRuntimeError", "Could not find adapter type snowflake!", "Install the adapter", False),
        ("EnvVarMissingError", "Parsing Error\n  Env var required but not provided: 'X'", "Set the variable", False),
        (
            "DbtDatabaseError",
            'could not connect: FATAL:  password authentication failed for user "floe"',
            "rejects the credentials",
            False,
        ),
        (
            "FailedToConnectError",
            "250001: Incorrect username or password was specified.",
            "rejects the credentials",
            False,
        ),
        ("DbtDatabaseError", 'could not translate host name "pg" to address', "does not respond", True),
        ("DbtDatabaseError", "connection to 127.0.0.1, port 1 failed: Connection refused", "does not respond", True),
        ("OSError", "[Errno 28] No space left on device", "Free disk space", True),
        ("PermissionError", "[Errno 13] Permission denied: '/srv/target'", "FLOE_STATE_DIR", False),
        ("DbtDatabaseError", "permission denied for database warehouse", "Grant this permission", False),
        ("CompilationError", "Compilation Error in model a\n  'nope' is undefined", "Correct the project", False),
        (
            "CompilationError",
            "in model confusion_matrix: 'statement_timeout' is undefined",
            "Correct the project",
            False,
        ),
        ("DbtUsageException", "No such option: --nope", "Correct the options of the run", False),
        ("KeyError", "'what'", "captured output", True),
    ],
)
def test_an_error_comes_with_what_to_do(error_type: str, error: str, fix: str, *, retryable: bool) -> None:
    diagnosis = diagnosed("/shop", error_type, f"\x1b[31m{error}\x1b[0m\n")

    first, last = str(diagnosis).rsplit("\n", 1)
    assert first == f"/shop: dbt failed: {error}"
    assert last.startswith("    fix: ")
    assert fix in last
    assert diagnosis.retryable is retryable


@pytest.mark.parametrize(
    ("error", "core", "v2"),
    [
        ("This version of dbt is not supported with 'shop'.", "Install a dbt-core that", "Set dbt.executable to"),
        ("Could not find adapter type oracle!", "Install the adapter", "dbt v2 has its adapters built in."),
        ("The 'oracle' adapter is not yet supported by dbt Fusion.", "Set dbt.engine to v2", "set dbt.engine to core."),
    ],
)
def test_what_to_do_is_for_the_engine_that_failed(error: str, core: str, v2: str) -> None:
    fixes = [str(diagnosed("/shop", "", error, engine)).partition("    fix: ")[2] for engine in get_args(EngineKind)]

    assert core in fixes[0]
    assert v2 in fixes[1]
    assert not any(fix in other for fix, other in ((core, fixes[1]), (v2, fixes[0])))
