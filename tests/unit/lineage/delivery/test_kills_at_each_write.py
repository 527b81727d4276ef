"""OpenLineage runs end exactly once when their process is killed after any write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import clean_environment

# Starts runs, ends every other one and dies. A code server then ends the rest, and is killed after its n-th write; so
# is, in the second scenario, the step itself. Another code server ends the other runs. Prints the spool.
_SCRIPT = """
import itertools, json, logging, os, shutil, signal, sys
from pathlib import Path
from openlineage.client.event_v2 import RunState
from floe_orchestrator_dagster.automation.lineage_sensors.unfinished_runs import end_open_runs_of
from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.run_journal import RunJournal
from unit.lineage.sample_run import RUN_ID, sample_events

def emitter(spool):
    return LineageEmitter(LineageError("no backend", []), spool, LineageConfig(), run=RUN_ID)

def step(spool):
    with emitter(spool) as lineage:
        runs, ended = RunJournal(spool, RUN_ID), 0
        for event in events:
            if event.eventType is not RunState.START:
                ended += 1
            if event.eventType is RunState.START or ended % 2:
                runs.emit(event, lineage.emit)
        os._exit(0)  # without a word

def code_server(spool):
    with emitter(spool) as lineage:
        end_open_runs_of(lineage, RUN_ID, "it was killed", logging.getLogger())

def in_a_process(work, spool, writes=0):
    process = os.fork()
    if not process:
        if writes:
            die_after(writes)
        work(spool)
        os._exit(0)
    return os.waitpid(process, 0)[1]

def die_after(writes):
    counter = itertools.count(1)
    def dying(call):
        def then_die(*arguments, **options):
            done = call(*arguments, **options)
            if next(counter) == writes:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        return then_die
    for name in ("write", "pwrite", "unlink"):
        setattr(os, name, dying(getattr(os, name)))

directory, scenario = Path(sys.argv[1]), sys.argv[2]
some = {event.run.runId for event in sample_events()[:12]}
events = [event for event in sample_events() if event.run.runId in some]
outcome = None
for writes in itertools.count(1):
    if outcome == 0:  # it came to its end before so many writes
        break
    spool = directory / str(writes)
    if scenario == "code_server":
        in_a_process(step, spool)
        outcome = in_a_process(code_server, spool, writes)
    else:
        outcome = in_a_process(step, spool, writes)
    in_a_process(code_server, spool)
    print(json.dumps({
        "events": [line for file in sorted(spool.glob("*.jsonl")) for line in file.read_text().splitlines()],
        "journals": len(list(spool.glob("*.open"))),
    }))
"""


@pytest.mark.parametrize(("scenario", "least"), [("code_server", 10), ("step", 20)])
def test_no_run_stays_open_and_none_ends_in_two_ways(tmp_path: Path, scenario: str, least: int) -> None:
    tests = str(Path(__file__).parents[2])
    environment = clean_environment(PYTHONPATH=":".join([tests, *sys.path]))
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path), scenario]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    outcomes = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(outcomes) >= least
    for outcome in outcomes:
        events = [json.loads(line) for line in outcome["events"]]
        ends = [line for line, event in zip(outcome["events"], events, strict=True) if event["eventType"] != "START"]
        assert _runs(events, is_start=True) <= _runs(events, is_start=False)
        assert len(_runs(events, is_start=False)) == len(set(ends))  # repeated events are equal to the byte
        assert len(ends) - len(set(ends)) <= 1
        assert outcome["journals"] == 0


def _runs(events: list[dict[str, Any]], *, is_start: bool) -> set[str]:
    return {event["run"]["runId"] for event in events if (event["eventType"] == "START") is is_start}
