"""Fixes for dbt's errors, and whether a retry can succeed."""

from __future__ import annotations

from typing import get_args

import pytest

from floe_orchestrator_dagster.execution.dbt.diagnosis import EngineKind, diagnosed, plain_message


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
        (
            "DbtRuntimeError",
            "Database Error\n  failed to connect: TTransportException: Could not connect to any of [('db', 10000)]",
            "does not respond",
            True,
        ),
        ("OperationalError", "250001: Failed to connect to DB: org.snowflakecomputing.com", "does not respond", True),
        ("OperationalError", "(2003, \"Can't connect to MySQL server on 'db' (111)\")", "does not respond", True),
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


FRAMES = """
\tat org.apache.spark.sql.hive.thriftserver.HiveThriftServerErrors$.runningQueryError(HiveThriftServerErrors.scala:43)
\tat org.apache.spark.sql.hive.thriftserver.SparkOperation.$anonfun$execute$1(SparkOperation.scala:271)
    at java.base/java.security.AccessController.doPrivileged(AccessController.java:712)
\tat java.base/jdk.internal.reflect.NativeMethodAccessorImpl.invoke0(Native Method)
\tat app//org.apache.spark.Task.<init>(Unknown Source)
    """


def test_a_java_stack_trace_is_left_out_and_its_causes_are_kept() -> None:
    message = f"""Database Error in model sessions (models/sessions.sql)
  HiveSQLException: Error running query: [UNRESOLVED_COLUMN] no column `user_idd`; line 20 pos 8;
  'Aggregate [session#607L], [min('user_idd) AS user_id#603]
{FRAMES}
Caused by: java.lang.IllegalStateException: gone{FRAMES}
\t... 16 more
"""

    assert plain_message(message) == (
        "Database Error in model sessions (models/sessions.sql)\n"
        "  HiveSQLException: Error running query: [UNRESOLVED_COLUMN] no column `user_idd`; line 20 pos 8;\n"
        "  'Aggregate [session#607L], [min('user_idd) AS user_id#603]\n"
        "Caused by: java.lang.IllegalStateException: gone"
    )


@pytest.mark.parametrize(
    "message",
    [
        "Database Error\n\n  select a\n  from b\n\n  at line 3",
        "Runtime Error\n  at position (12)\n  look at f(x)\n\tat the end",
        'Python model failed\n  File "a.py", line 3, in model\n    return look at(1)',
    ],
)
def test_other_messages_are_unchanged(message: str) -> None:
    assert plain_message(f"\x1b[31m{message}\x1b[0m\n") == message
