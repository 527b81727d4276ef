"""Computation of column lineage in a process whose CPU time the operating system limits.

sqlglot cannot be interrupted: in its compiled form, all other threads wait for it. A process can be ended at any time,
and does not use up the memory or the stack of this one. Its start takes about half a second of CPU.

As a module, it reads a request from its standard input and writes the answer to its standard output.
"""

from __future__ import annotations

import gc
import pickle
import resource
import signal
import subprocess
import sys
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
from floe_orchestrator_dagster.lineage.columns.qualification import Query
from floe_orchestrator_dagster.lineage.columns.query_lineage import query_lineage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.lineage.columns.qualification import Relation

_WALL_PER_CPU_SECOND = 10  # on a machine that is busy or suspended, the time limit may take longer to be reached


class TimeLimitError(Exception):
    """The computation has taken too long."""


def limited_lineage(
    sql: str, adapter: str, relations: Sequence[Relation], output: Sequence[str], cpu_seconds: int
) -> ColumnLineage:
    """Compute column lineage in a separate process.

    Args:
        sql: Compiled SQL.
        adapter: dbt's name of the adapter.
        relations: The relations that the SQL may read.
        output: The query's actual output columns, if known.
        cpu_seconds: CPU time of the computation, without the start of the process.

    Raises:
        TimeLimitError: It takes longer.
        CalledProcessError: The SQL cannot be parsed or resolved.
    """
    command = [sys.executable, "-m", __name__]
    request = pickle.dumps((sql, adapter, relations, output, cpu_seconds))
    try:
        answer = subprocess.run(
            command,
            input=request,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=cpu_seconds * _WALL_PER_CPU_SECOND,
            check=True,
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise TimeLimitError from error
    except subprocess.CalledProcessError as error:
        if error.returncode == -signal.SIGXCPU:
            raise TimeLimitError from error
        raise
    fields, dataset = pickle.loads(answer)  # noqa: S301  # written by this module
    return ColumnLineage(MappingProxyType(fields), dataset)


def _answer(request: bytes) -> bytes:
    sql, adapter, relations, output, cpu_seconds = pickle.loads(request)  # noqa: S301  # written by this module
    limit = round(time.process_time()) + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    lineage = query_lineage(Query(sql, adapter, relations), output)
    return pickle.dumps((dict(lineage.fields), lineage.dataset))


if __name__ == "__main__":
    gc.disable()  # the process is short, and half of its time would be garbage collection
    sys.stdout.buffer.write(_answer(sys.stdin.buffer.read()))
