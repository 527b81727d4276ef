"""Runs that are ended at random moments: what is left of them, and what their re-execution from failure builds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import psutil
import pytest

from e2e.servers import DagsterDev, answers, free_port, server, wait_until
from e2e.shop import LOCATION, captured, launch
from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.job_process import JobProcess, dagster_home, opened, tables
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from dagster._core.definitions.reconstruct import ReconstructableJob

MODELS: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["d"], "f": ["e"], "g": ["f"]}
# With two steps, these are the second: on another target of the same file.
SECOND_STEP = "efg"
FIRST_STEP_ENDS = "shop_orders_dbt_build_duckdb - STEP_SUCCESS"
TESTS = {"unique_b_id": "b", "unique_d_id": "d", "unique_f_id": "f"}
FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        on-run-start: create table if not exists builds (name varchar, invocation_id varchar)
        models:
          shop:
            +materialized: table
            +post-hook: insert into builds values ('{{ this.name }}', '{{ invocation_id }}')
        """,
    # One model does not end. Its name is not part of the parsed project.
    "macros/count_rows.sql": """
        {% macro count_rows() %}
        {%- set rows = 1000000000000 if execute and env_var('ENDLESS', '') == this.name else 10 -%}
        (select count(*) from range({{ rows }}))
        {%- endmacro %}
        """,
    "models/a.sql": "select {{ count_rows() }} as id",
    "models/b.sql": "select {{ count_rows() }} as id from {{ ref('a') }}",
    "models/c.sql": "select {{ count_rows() }} as id from {{ ref('b') }}",
    # The one in Python holds the interpreter's lock while it does not end.
    "models/d.py": """
        import os
        import re


        def model(dbt, session):
            dbt.config(materialized="table")
            if os.environ.get("ENDLESS") == "d":
                re.match(r"(a+)+$", "a" * 64 + "b")
            return dbt.ref("c")
        """,
    "models/e.sql": "select {{ count_rows() }} as id from {{ ref('d') }}",
    "models/f.sql": "select {{ count_rows() }} as id from {{ ref('e') }}",
    "models/g.sql": "select {{ count_rows() }} as id from {{ ref('f') }}",
    "models/schema.yml": """
        models:
          - {name: b, columns: [{name: id, data_tests: [unique]}]}
          - {name: d, columns: [{name: id, data_tests: [unique]}]}
          - {name: f, columns: [{name: id, data_tests: [unique]}]}
        """,
}
# By default two that kill the run's process in the middle of a model: the first one's step has a separate process,
# and the second one's model holds the interpreter's lock. Services are killed by `make chaos` only: they start slowly.
COUNT = int(os.environ.get("INTERRUPTIONS", "0"))
MOMENTS = range(COUNT * 3 // 4) if COUNT else (21, 63)
SERVICE_MOMENTS = range(COUNT - COUNT * 3 // 4) if COUNT else ()
# Parts of their command lines. Those of the webserver and the daemon have `--code-server-log-level`.
SERVICES = {
    "code server": ("dagster code-server", "dagster api grpc"),
    "daemon": ("dagster._daemon",),
    "everything": ("",),
}


@dataclass(frozen=True)
class Interruption:
    """Time and kind of a run's interruption.

    Attributes:
        executor: Whether its steps run in its own process or in others.
        endless: The model that does not end by itself.
        after: What its log says before; empty for the start of the process.
        seconds: How long after that.
        signal: What it gets.
        of_step: Whether a process below it gets the signal, where there is one, in place of the run's own.
    """

    executor: str
    endless: str
    after: str
    seconds: float
    signal: signal.Signals
    of_step: bool

    @classmethod
    def from_seed(cls, seed: int) -> Interruption:
        chance = random.Random(seed)  # noqa: S311 - moments, not secrets
        endless = chance.choice(list(MODELS))
        begun = f"Began running node model.shop.{chance.choice([name for name in MODELS if name <= endless])}"
        after = chance.choice(["", "running dbt", begun, begun, FIRST_STEP_ENDS])
        if after == FIRST_STEP_ENDS:
            endless = chance.choice(SECOND_STEP)
        return cls(
            executor=chance.choice(["in_process", "in_process", "multiprocess"]),
            endless=endless,
            after=after,
            seconds=chance.uniform(0, 8 if not after else 3),
            signal=chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]),
            of_step=chance.random() < 0.5,
        )

    @property
    def is_between_steps(self) -> bool:
        return self.after == FIRST_STEP_ENDS

    def happen(self, run: JobProcess) -> None:
        run.wait_for(run.says(self.after))
        until = time.monotonic() + self.seconds
        run.wait_for(lambda: time.monotonic() > until)
        if self.of_step and run.steps:
            run.steps[0].send_signal(self.signal)
        else:
            run.process.send_signal(self.signal)


@pytest.fixture(scope="session")
def _parsed_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("chain") / "shop", FILES)
    load_product(write_contract(project, "in_process"), manifest_source=manifest_rebuilt)
    return project


@pytest.fixture
def chain(_parsed_chain: Path, tmp_path: Path) -> Path:
    """Give a product of seven models in a row, that notes each build of each of them in its database."""
    return Path(shutil.copytree(_parsed_chain, tmp_path / "shop"))


def write_contract(project: Path, executor: str, second_step: str = "") -> Path:
    models = [
        model(name, *parents, compute="second" if name in second_step else "duckdb") for name, parents in MODELS.items()
    ]
    output = {"type": "duckdb", "path": "shop.duckdb", "threads": 1}
    outputs = {"shop-orders": {"target": "dev", "outputs": {"dev": output, "second": output}}}
    artifacts = contract(*models, config={"executor": executor}, dbt_profiles=outputs)
    return write_json(project / "compiled_artifacts.json", artifacts)


def chain_job(project: Path) -> ReconstructableJob:
    """Name the product's job of this project: Dagster makes a job once, and that of another test is not this one."""
    path = str(project / "compiled_artifacts.json")
    return dg.build_reconstructable_job("integration.job_process", "product_job", reconstructable_args=(path,))


def interrupted(project: Path, home: Path, moment: Interruption) -> float:
    """Run the product and end it; returns how long (s) dbt lived on."""
    run = JobProcess(project, home, ENDLESS=moment.endless)
    try:
        moment.happen(run)
        since = time.monotonic()
        # It takes two seconds, in which a query may end; on a busy machine they are longer.
        assert run.dbt_ended_within(60), (run.dbt, moment, run.text)
        seconds = time.monotonic() - since
        run.process.wait(timeout=300)
        assert run.ended_within(60), (moment, run.alive, run.text)
        return seconds
    finally:
        run.end()


def ended_run(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """Find the run that was interrupted; None when that was before there was one."""
    runs = instance.get_runs(limit=1)
    if runs and not runs[0].is_finished:
        # The same as the daemon's run monitoring does after the end of a run's process.
        instance.report_run_failed(runs[0])
        return instance.get_run_by_id(runs[0].run_id)
    return runs[0] if runs else None


def succeeded(instance: dg.DagsterInstance, run_id: str) -> tuple[set[str], set[str]]:
    """Tell which models a run materialized, and which tests passed, as its events have it."""
    events = [record.dagster_event for record in instance.all_logs(run_id)]
    built = {
        event.asset_key.path[-1]
        for event in events
        if event and event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key
    }
    checks = {
        event.asset_check_evaluation_data.check_name
        for event in events
        if event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    }
    return built, checks


def ran(project: Path, run_id: str) -> set[str]:
    """Tell which models and tests dbt itself says that it ran for a run."""
    files = (project / "target").glob(f"*-{run_id[:8]}-*/run_results.json")
    ids = [result["unique_id"].split(".") for path in files for result in json.loads(path.read_text())["results"]]
    return {unique_id[2] for unique_id in ids if unique_id[0] in {"model", "test"}}


def builds(project: Path) -> Counter[str]:
    """Count how often each model was built; each row is committed together with its table."""
    if "builds" not in tables(project):
        return Counter()
    with opened(project / "shop.duckdb") as connection:
        return Counter(name for (name,) in connection.sql("select name from builds").fetchall())


@pytest.mark.parametrize("seed", MOMENTS)
def test_a_run_ended_at_any_moment_is_resumed_with_what_was_left(chain: Path, tmp_path: Path, seed: int) -> None:
    moment = Interruption.from_seed(seed)
    second_step = SECOND_STEP if moment.is_between_steps else ""
    write_contract(chain, moment.executor, second_step)

    seconds = interrupted(chain, home := dagster_home(tmp_path / "home"), moment)

    status, built, twice = assert_the_rest_is_built(chain, home, second_step)
    print(f"{seed}: {moment} → {status}, gone after {seconds:.1f} s, built {built}, twice {twice}")  # noqa: T201


@dataclass(frozen=True)
class ServiceKill:
    """Time of the kill, and the killed processes of a running Dagster.

    Attributes:
        victims: The service; ``everything`` includes the run.
        after: The model whose start the run's log shows before.
        seconds: How long after that.
        endless: The model that does not end by itself, where the run is killed too.
    """

    victims: str
    after: str
    seconds: float
    endless: str

    @classmethod
    def from_seed(cls, seed: int) -> ServiceKill:
        chance = random.Random(seed)  # noqa: S311 - moments, not secrets
        victims = [*SERVICES][seed % len(SERVICES)]
        endless = chance.choice([*MODELS, "d", "d"]) if victims == "everything" else ""
        after = chance.choice([name for name in MODELS if name <= (endless or "c")])
        return cls(victims, after, chance.uniform(0, 2), endless)

    def happen(self, dev: psutil.Process) -> list[psutil.Process]:
        """Kill the processes; returns all that were there."""
        there = [*dev.children(recursive=True), dev]
        # Those that run dbt have no signal to wait for: they notice.
        services = [process for process in there if "execution.dbt.core_process" not in _command(process)]
        for process in services:
            if any(part in _command(process) for part in SERVICES[self.victims]):
                process.kill()
        return there


def _command(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.parametrize("seed", SERVICE_MOMENTS)
def test_services_killed_at_any_moment_leave_nothing(chain: Path, tmp_path: Path, seed: int) -> None:
    kill = ServiceKill.from_seed(seed)
    write_contract(chain, "multiprocess" if seed % 2 else "in_process")
    home, log, port = dagster_home(tmp_path / "home"), tmp_path / "dev.log", free_port()
    dev = DagsterDev(f"http://127.0.0.1:{port}", chain, log)
    environment = {
        "FLOE_ARTIFACTS_PATH": str(chain / "compiled_artifacts.json"),
        "DAGSTER_HOME": str(home),
        "ENDLESS": kill.endless,
    }
    arguments = ("-m", LOCATION, "--host", "127.0.0.1", "--port", str(port))
    with server("dev", *arguments, log=log, **environment) as process:
        wait_until(lambda: answers(dev), 300, process, log)
        run_id = launch(dev, "shop_orders")
        begun = f"Began running node model.shop.{kill.after}"
        wait_until(lambda: begun in captured(dev, run_id), 300, process, log)
        time.sleep(kill.seconds)
        there = kill.happen(psutil.Process(process.pid))
        if kill.victims != "everything":
            assert finished_status(home, run_id) is dg.DagsterRunStatus.SUCCESS
            assert builds(chain) == Counter(MODELS.keys())
            there += psutil.Process(process.pid).children(recursive=True)

    _, alive = psutil.wait_procs(there, timeout=60)
    assert [_command(process) for process in alive] == []
    status, built, twice = assert_the_rest_is_built(chain, home, "")
    print(f"{seed}: {kill} → {status}, built {built}, twice {twice}")  # noqa: T201


def finished_status(home: Path, run_id: str) -> dg.DagsterRunStatus:
    until = time.monotonic() + 300
    with dg.DagsterInstance.from_config(str(home)) as instance:
        while time.monotonic() < until:
            run = instance.get_run_by_id(run_id)
            if run is not None and run.is_finished:
                return run.status
            time.sleep(0.5)
    pytest.fail(f"{run_id} has not ended")


def assert_the_rest_is_built(chain: Path, home: Path, second_step: str) -> tuple[str, list[str], list[str]]:
    """Resume the newest run, where it has not succeeded, and run the product again.

    Returns:
        How the run ended, what it had built, and what was built twice.
    """
    before = builds(chain)
    write_contract(chain, "in_process", second_step)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        first = ended_run(instance)
        built, checked = succeeded(instance, first.run_id) if first else (set[str](), set[str]())
        if first is not None and first.status is not dg.DagsterRunStatus.SUCCESS:
            again = resumed(chain, instance, first)
            left = MODELS.keys() - built
            assert ran(chain, again.run_id) == left | {
                test for test, name in TESTS.items() if name in left or test not in checked
            }
        after = builds(chain)
        result = dg.execute_job(chain_job(chain), instance=instance)

    twice = {name for name, count in after.items() if count > 1}
    # dbt can commit a table that no process reports. Tables in Dagster's event log are not built again.
    assert built <= before.keys()
    assert not twice & built
    assert len(twice) <= 2
    assert result.success
    assert builds(chain) == after + Counter(MODELS.keys())
    return first.status.value if first else "no run yet", sorted(built), sorted(twice)


def resumed(project: Path, instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.ExecuteJobResult:
    """Re-execute a run from its failure, as the webserver and the daemon do."""
    again = dg.execute_job(
        chain_job(project),
        instance=instance,
        reexecution_options=dg.ReexecutionOptions.from_failure(run.run_id, instance),
        tags={"dagster/is_resume_retry": "true"},
    )
    assert again.success
    return again
