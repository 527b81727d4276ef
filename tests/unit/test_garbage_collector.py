"""Use of Python's garbage collector: tuned in processes of Dagster's only, paused in commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from processes import run_python
from unit.dbt_shop import write_dbt_shop

if TYPE_CHECKING:
    from pathlib import Path

_COLLECTOR = """
import gc
import json

def collector():
    return [gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 0]

gc.set_threshold(555, 5, 5)
"""
_SCRIPT = f"""
{_COLLECTOR}
import os
from pathlib import Path
from floe_orchestrator_dagster import load_definitions_from_environment, load_product_definitions
load_product_definitions("shop-orders", Path(os.environ["FLOE_ARTIFACTS_PATH"]).parent)
load_definitions_from_environment()
from floe_orchestrator_dagster.definitions import defs
defs()
print(json.dumps(collector()))
"""
_CODE_SERVER = f"""
{_COLLECTOR}
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.server import LoadedRepositories
LoadedRepositories(LoadableTargetOrigin(module_name="floe_orchestrator_dagster.definitions"), None, ["dagster"], None)
print(json.dumps(collector()))
"""
# The load of a small product starts some hundred passes. Libraries and the end of the process may start one or two.
_PASSES_OF_A_LOAD = 20
_COMMAND = """
import gc
import json
import os
from floe_orchestrator_dagster.cli import main

passes = []
gc.callbacks.append(lambda phase, _details: passes.append(phase))
main(["validate", os.environ["FLOE_ARTIFACTS_PATH"]], standalone_mode=False)
print(json.dumps([len(passes), gc.isenabled()]))
"""


@pytest.mark.parametrize(
    ("process", "collector"), [(_SCRIPT, [True, 555, False]), (_CODE_SERVER, [True, 100_000, True])]
)
def test_collector_after_a_load(tmp_path: Path, process: str, collector: list[object]) -> None:
    ended = run_python("-c", process, FLOE_ARTIFACTS_PATH=str(write_dbt_shop(tmp_path)))

    assert json.loads(ended.stdout) == collector


def test_collector_is_paused_during_a_command(tmp_path: Path) -> None:
    ended = run_python("-c", _COMMAND, FLOE_ARTIFACTS_PATH=str(write_dbt_shop(tmp_path)))

    passes, is_enabled = json.loads(ended.stdout.splitlines()[-1])
    assert passes < _PASSES_OF_A_LOAD
    assert is_enabled
