"""What dbt's errors mean, what to do, and whether trying again may help."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.execution.dbt.diagnosis import diagnosed


@pytest.mark.parametrize(
    ("error_type", "error", "fix", "retryable"),
    [
        ("DbtRuntimeError", 'IO Error: Could not set lock on file "/x.duckdb": Conflicting lock', "close it", True),
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
            "refuses these credentials",
            False,
        ),
        (
            "FailedToConnectError",
            "250001: Incorrect username or password was specified.",
            "refuses these credentials",
            False,
        ),
        ("DbtDatabaseError", 'could not translate host name "pg" to address', "does not answer", True),
        ("DbtDatabaseError", "connection to 127.0.0.1, port 1 failed: Connection refused", "does not answer", True),
        ("OSError", "[Errno 28] No space left on device", "Free space", True),
        ("PermissionError", "[Errno 13] Permission denied: '/srv/target'", "FLOE_STATE_DIR", False),
        ("DbtDatabaseError", "permission denied for database warehouse", "Grant this right", False),
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
    told = diagnosed("/shop", error_type, f"\x1b[31m{error}\x1b[0m\n")

    first, last = str(told).rsplit("\n", 1)
    assert first == f"/shop: dbt could not do its work: {error}"
    assert last.startswith("    fix: ")
    assert fix in last
    assert told.retryable is retryable
