"""What dbt's errors mean, and what to do."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.execution.diagnosis import advice


@pytest.mark.parametrize(
    ("error_type", "error", "fix"),
    [
        ("DbtRuntimeError", 'IO Error: Could not set lock on file "/x.duckdb": Conflicting lock', "close it"),
        ("DbtProjectError", "This version of dbt is not supported with the 'shop' package.", "Install a dbt-core that"),
        ("DbtRuntimeError", "Could not find adapter type snowflake!", "Install the adapter"),
        ("EnvVarMissingError", "Parsing Error\n  Env var required but not provided: 'X'", "Set the variable"),
        ("DbtDatabaseError", 'FATAL:  password authentication failed for user "floe"', "refuses these credentials"),
        ("FailedToConnectError", "250001: Incorrect username or password was specified.", "refuses these credentials"),
        ("DbtDatabaseError", 'could not translate host name "pg" to address', "does not answer"),
        (
            "DbtDatabaseError",
            "connection to 127.0.0.1, port 1 failed: Connection refused",
            "does not answer",
        ),
        ("OSError", "[Errno 28] No space left on device", "Free space"),
        ("PermissionError", "[Errno 13] Permission denied: '/srv/target'", "FLOE_STATE_DIR"),
        ("CompilationError", "Compilation Error in model a\n  'nope' is undefined", "Correct the project"),
        ("DbtUsageException", "No such option: --nope", "Correct the options of the run"),
        ("KeyError", "'what'", "captured output"),
    ],
)
def test_an_error_comes_with_what_to_do(error_type: str, error: str, fix: str) -> None:
    told = advice(error_type, f"\x1b[31m{error}\x1b[0m\n")

    first, last = told.rsplit("\n", 1)
    assert first == f"dbt could not do its work: {error}"
    assert last.startswith("    fix: ")
    assert fix in last
