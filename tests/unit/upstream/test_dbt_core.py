"""dbt's error behind the error of closing a connection."""

from __future__ import annotations

from itertools import pairwise

from dbt_common.exceptions import DbtRuntimeError

from floe_orchestrator_dagster.upstream.dbt_core import hidden_error


def raised(*errors: Exception) -> Exception:
    """Return the last error, each raised while the one before it was handled."""
    for before, error in pairwise(errors):
        error.__context__ = before
    return errors[-1]


def test_first_error_of_dbt_is_found_behind_others() -> None:
    lost = DbtRuntimeError("Connection lost")

    assert hidden_error(raised(OSError("socket"), lost, BrokenPipeError(), ValueError("unexpected"))) == str(lost)
    assert "Connection lost" in str(lost)


def test_other_errors_hide_nothing() -> None:
    assert hidden_error(raised(OSError("socket"), ValueError("unexpected"))) == ""
    assert hidden_error(None) == ""
