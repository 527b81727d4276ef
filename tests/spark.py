"""A Spark cluster for tests, from the wheel of pyspark: master, two workers and the Thrift server, on loopback.

``make test-spark`` installs pyspark into a separate environment. It needs Java 17 or newer.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_backend import free_port
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

JDBC_DRIVER = Path("/usr/share/java/postgresql.jar")
"""Driver of PostgreSQL, where Debian's package libpostgresql-jdbc-java installs it."""
_SECONDS = 600
_WORKERS = 2
_BUSY_SECONDS = 4
_STARTED = re.compile(r"Starting task .*\(TID (\d+)\) .*\bexecutor (\d+)")
_FINISHED = re.compile(r"Finished task .*\(TID (\d+)\)")
_THRIFT_SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
# Runs statements, and prints the rows of the last one.
_STATEMENTS = """
import sys
from pyhive import hive
cursor = hive.connect("127.0.0.1", int(sys.argv[1]), username="test").cursor()
for statement in sys.argv[2:]:
    cursor.execute(statement)
if cursor.description:
    for row in cursor.fetchall():
        print(*row, sep="|")
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        port: Port of the Thrift server.
        lake: Directory of the tables: ``spark.sql.warehouse.dir``.
        logs: Directory with a log of each process.
        processes: Each process, which leads a process group.
    """

    port: int
    lake: Path
    logs: Path
    processes: Mapping[str, subprocess.Popen[bytes]]

    def sql(self, *statements: str) -> list[str]:
        """Run statements; returns the rows of the last one, with their values joined by ``|``."""
        command = [sys.executable, "-c", _STATEMENTS, str(self.port), *statements]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def kill(self, name: str) -> None:
        """End a process and its children with SIGKILL: a worker with its executors."""
        process = self.processes[name]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def driver_log(self) -> str:
        """Return what the Thrift server, which is the driver of all queries, has logged."""
        return (self.logs / "thrift.log").read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def killing(self, name: str) -> Iterator[None]:
        """Kill a process in the block, as soon as all executors have been busy with a task for a while."""
        since, has_ended = len(self.driver_log()), threading.Event()
        workers = [name for name in self.processes if name.startswith("worker") and self.processes[name].poll() is None]

        def kill() -> None:
            first_seen: dict[str, float] = {}
            while len(self._busy(since, first_seen)) < len(workers):
                if has_ended.wait(timeout=0.2):
                    return
            self.kill(name)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            yield
        finally:
            has_ended.set()
            killer.join()
        assert self.processes[name].poll() is not None, f"{name} was not killed: too few tasks"

    def _busy(self, since: int, first_seen: dict[str, float]) -> set[str]:
        """Return the executors with a task that has run for some seconds.

        Args:
            since: Length of the driver's log before the tasks.
            first_seen: Time at which each task was seen first; new ones are added.
        """
        log, now = self.driver_log()[since:], time.monotonic()
        running = dict(_STARTED.findall(log))
        for task in _FINISHED.findall(log):
            running.pop(task, None)
        return {
            executor for task, executor in running.items() if now - first_seen.setdefault(task, now) > _BUSY_SECONDS
        }


def is_installed() -> bool:
    """Return whether this Python has Spark and dbt-spark."""
    return all(find_spec(name) is not None for name in ("pyspark", "pyhive", "dbt.adapters.spark"))


@contextmanager
def running_cluster(directory: Path, postgres: str) -> Iterator[Cluster]:
    """Run a cluster until the block ends. It writes below ``directory`` only.

    Args:
        directory: Directory for logs, tables and temporary files.
        postgres: Address of the PostgreSQL database that is the catalog ``marts``, for JDBC.
    """
    found = find_spec("pyspark")
    assert found is not None
    assert found.origin is not None
    home, master, port = Path(found.origin).parent, free_port(), free_port()
    environment = clean_environment(
        SPARK_HOME=str(home),
        SPARK_LOCAL_IP="127.0.0.1",
        SPARK_LOCAL_DIRS=str(directory / "local"),
        SPARK_DAEMON_MEMORY="1g",
    )
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, arguments in _commands(home, directory, master, port, postgres).items():
            with (directory / f"{name}.log").open("wb") as log:
                started[name] = subprocess.Popen(
                    arguments,
                    env=environment,
                    cwd=directory,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        _wait(started, port, directory)
        yield Cluster(port, directory / "lake", directory, started)
    finally:
        for process in reversed(started.values()):
            # Executors have the group of their worker.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _commands(home: Path, directory: Path, master: int, port: int, postgres: str) -> dict[str, Sequence[str]]:
    """Return the command of each process, in the order of their start."""
    spark_class, address = str(home / "bin" / "spark-class"), f"spark://127.0.0.1:{master}"
    here = ("--host", "127.0.0.1", "--webui-port", "0")
    settings = {
        "spark.sql.warehouse.dir": directory / "lake",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={directory}/metastore;create=true",
        "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
        "spark.hadoop.hive.metastore.schema.verification": "false",
        "spark.hadoop.hive.server2.thrift.bind.host": "127.0.0.1",
        "spark.hadoop.hive.server2.thrift.port": port,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={directory}/derby.log",
        "spark.ui.enabled": "false",
        "spark.executor.memory": "512m",
        "spark.sql.shuffle.partitions": "2",
        # A small table is read in several tasks.
        "spark.sql.files.minPartitionNum": "8",
        "spark.sql.files.openCostInBytes": "1",
        # Otherwise dynamic partitions of insert_overwrite replace the whole table.
        "spark.sql.sources.partitionOverwriteMode": "dynamic",
        "spark.sql.catalog.marts": "org.apache.spark.sql.execution.datasources.v2.jdbc.JDBCTableCatalog",
        "spark.sql.catalog.marts.url": postgres,
        "spark.sql.catalog.marts.driver": "org.postgresql.Driver",
        "spark.sql.catalog.marts.user": "postgres",
        # Of `--jars`, the sessions of the Thrift server do not find all classes.
        "spark.driver.extraClassPath": JDBC_DRIVER,
        "spark.executor.extraClassPath": JDBC_DRIVER,
    }
    worker = (spark_class, "org.apache.spark.deploy.worker.Worker", *here, "--cores", "1", "--memory", "768m")
    given = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    submit = (str(home / "bin" / "spark-submit"), "--master", address, "--class", _THRIFT_SERVER)
    return {
        "master": (spark_class, "org.apache.spark.deploy.master.Master", *here, "--port", str(master)),
        **{
            f"worker{row}": (*worker, "--work-dir", str(directory / f"work{row}"), address)
            for row in range(1, _WORKERS + 1)
        },
        "thrift": (*submit, *given, "spark-internal"),
    }


def _wait(started: Mapping[str, subprocess.Popen[bytes]], port: int, directory: Path) -> None:
    """Wait until the Thrift server answers."""
    until = time.monotonic() + _SECONDS
    while True:
        ended = [name for name, process in started.items() if process.poll() is not None]
        assert not ended, (directory / f"{ended[0]}.log").read_text(encoding="utf-8", errors="replace")[-3000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until, f"no Thrift server after {_SECONDS} s"
        time.sleep(0.3)
