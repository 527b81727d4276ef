"""A dbt v2 that does what a test has written down, and a session that runs it."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.v2_run import V2Session
from floe_orchestrator_dagster.product import load_product
from unit.samples import contract, manifest, model, node, profiles, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Record = dict[str, Any]
# Each start takes the next of the written processes, and notes its directory and environment.
_DBT = """#!{python}
import json, os, pathlib, signal, sys, time
if "--version" in sys.argv:
    sys.exit(print("dbt {version}"))
here = pathlib.Path(__file__).parent
started = len(list(here.glob("started-*")))
start = {{"cwd": os.getcwd(), "arguments": " ".join(sys.argv[1:]), **os.environ}}
(here / f"started-{{started}}").write_text(json.dumps(start))
process = json.loads((here / "processes.json").read_text())[started]
with open(sys.argv[sys.argv.index("--otel-file-name") + 1], "w") as events:
    for record in process["records"]:
        print(json.dumps(record), file=events, flush=True)
time.sleep(process["seconds"])
if process["status"] < 0:
    os.kill(os.getpid(), -process["status"])
sys.exit(process["status"])
"""


@dataclass(frozen=True)
class ScriptedDbt:
    """A session whose dbt is a script.

    Attributes:
        session: The session.
        directory: The script's directory.
    """

    session: V2Session
    directory: Path

    def will_run(self, *processes: Record) -> None:
        """Write down what the next processes do."""
        write_json(self.directory / "processes.json", list(processes))

    @property
    def environments(self) -> list[dict[str, str]]:
        """The environment of each started process, with its directory as ``cwd``, and its ``arguments``."""
        return [json.loads(path.read_text()) for path in sorted(self.directory.glob("started-*"))]


def process(records: Sequence[Record] = (), *, status: int = 0, seconds: float = 0) -> Record:
    """Describe a process: its records, and its exit status or negative signal after some seconds."""
    return {"records": list(records), "status": status, "seconds": seconds}


def record(kind: str, name: str, attributes: Record, **fields: object) -> Record:
    """Make a record of dbt v2."""
    return {"record_type": kind, "event_type": f"v1.public.events.fusion.{name}", "attributes": attributes, **fields}


def end(code: int = 1) -> Record:
    """Make the record of the end of an invocation; 1 is success."""
    return record("SpanEnd", "invocation.Invocation", {"invocation_id": "i"}, status={"code": code})


def error(text: str) -> Record:
    """Make the record of an error outside of nodes."""
    return record("LogRecord", "log.LogMessage", {}, severity_text="ERROR", body=text)


def answers(*found: object, connected: bool = True) -> list[Record]:
    """Make the records of an operation that is connected and answers for the first tables."""
    rows = [*([[-1, None]] if connected else []), *([row, answer] for row, answer in enumerate(found))]
    return [
        record("LogRecord", "log.UserLogMessage", {"is_print": True}, body=f"floe-answer {json.dumps(row)}")
        for row in rows
    ]


def scripted(
    directory: Path, limit: int | None = None, *, environment_file: str = "", version: str = "2.0.0", **output: str
) -> ScriptedDbt:
    """Make a session with a scripted dbt.

    Args:
        directory: Where to write it, and a project.
        limit: Time limit in seconds.
        environment_file: Content of the project's ``.env``.
        version: The version that dbt prints.
        output: Changes of the profile's output.
    """
    executable, target, private = directory / "bin" / "dbt", directory / "out", directory / "private"
    for created in (executable.parent, target, private):
        created.mkdir()
    executable.write_text(_DBT.format(python=sys.executable, version=version), encoding="utf-8")
    executable.chmod(0o755)
    project = write_project(directory / "shop")
    (project / ".env").write_text(environment_file, encoding="utf-8")
    write_json(project / "target" / "manifest.json", manifest(node("orders")))
    config = {"dbt": {"engine": "v2", "executable": str(executable)}}
    content = contract(model("orders"), config=config, dbt_profiles=profiles(**output))
    dbt = load_product(write_json(project / "compiled_artifacts.json", content)).dbt
    assert dbt is not None
    log = logging.getLogger("scripted")
    return ScriptedDbt(V2Session(str(executable), dbt, log, target, private, {}, {}, str, limit), executable.parent)
