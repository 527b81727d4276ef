"""Start of dbt v2: its threads, and the secrets that are masked in its arguments."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config.models import DbtConfig
from floe_orchestrator_dagster.execution.dbt.v2_engine import V2Engine
from unit.execution.dbt.scripted_v2 import end, process, scripted

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_VARIABLES = """
SHOP_THREADS=3
DBT_ENV_SECRET_TOKEN="first line
x
}
last line"
DBT_ENV_SECRET_PIN=3
"""


def test_variables_of_the_env_file_set_threads_and_are_masked_unless_they_are_too_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dbt = scripted(tmp_path, environment_file=_VARIABLES, threads="{{ env_var('SHOP_THREADS') }}")
    dbt.will_run(process([end()]))
    engine = V2Engine(dbt.session.executable, dbt.session.dbt, DbtConfig(), dbt.session.log)

    with caplog.at_level(logging.INFO), engine.start(["build", "--vars", "{x: last line}"], dbt.session.target) as run:
        list(run.values())

    assert run.is_successful
    arguments = "build --vars {x: ***} --threads 3 --profile shop_orders --target dev"
    assert caplog.messages == [f"running dbt {arguments}"]
