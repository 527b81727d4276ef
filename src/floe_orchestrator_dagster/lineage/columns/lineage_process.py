"""Computation of column lineage in a process whose CPU time and memory the operating system limits.

sqlglot cannot be interrupted: in its compiled form, all other threads wait for it. A process can be ended at any time,
and does not use up the memory or the stack of this one. Its start takes about half a second of CPU.

As a module, it reads a request from its standard input and writes the answer to its standard output.
"""

from __future__ import annotations

import gc
import os
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
from floe_orchestrator_dagster.lineage.columns.query_lineage import LARGEST_QUERY, query_lineage, query_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.lineage.columns.qualification import Relation

_WALL_PER_CPU_SECOND = 10  # on a machine that is busy or suspended, the time limit may take longer to be reached
_MOST_MEMORY = 2**30  # bytes
# Exit statuses of the process. Python's own are 1 and 2.
_UNREADABLE = 3
_TOO_LARGE = 4
_ENDED_BY_LIMIT = {_TOO_LARGE, -signal.SIGXCPU, -signal.SIGKILL}


class LimitError(Exception):
    """The computation takes too much time or memory."""


class UnreadableError(Exception):
    """sqlglot cannot parse or resolve the SQL."""


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
        LimitError: It takes longer, or more than 1 GiB of memory.
        UnreadableError: The SQL cannot be parsed or resolved.
        OSError: The process cannot be started.
        CalledProcessError: The process has failed for another reason.
    """
    # Imported here, because the process does not need it and starts sooner without it.
    from floe_orchestrator_dagster.execution.dbt.engine_process import absolute_python_path

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
            # Python would import modules from the files of the working directory.
            cwd=os.sep,
            env={**os.environ, **absolute_python_path()},
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise LimitError from error
    except subprocess.CalledProcessError as error:
        if error.returncode == _UNREADABLE:
            raise UnreadableError from error
        if error.returncode in _ENDED_BY_LIMIT:
            raise LimitError from error
        raise
    fields, dataset, columns = pickle.loads(answer)  # noqa: S301  # written by this module
    return ColumnLineage(MappingProxyType(fields), dataset, columns)


def _main() -> int:
    """Answer a request; return the exit status."""
    sql, adapter, relations, output, cpu_seconds = pickle.load(sys.stdin.buffer)  # noqa: S301  # written by this module
    _limit_resources(cpu_seconds)
    try:
        query = Query(sql, adapter, relations)
        if query_size(query) > LARGEST_QUERY:
            return _TOO_LARGE
        lineage = query_lineage(query, output)
    except (MemoryError, RecursionError):
        return _TOO_LARGE
    except Exception:  # noqa: BLE001  # sqlglot raises many types
        return _UNREADABLE
    sys.stdout.buffer.write(pickle.dumps((dict(lineage.fields), lineage.dataset, lineage.output)))
    return 0


def _limit_resources(cpu_seconds: int) -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = round(time.process_time()) + cpu_seconds
    _limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    _limit(resource.RLIMIT_AS, _MOST_MEMORY, _MOST_MEMORY)


def _limit(kind: int, soft: int, hard: int) -> None:
    """Set a limit, but do not raise a lower one."""
    _, highest = resource.getrlimit(kind)
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    gc.disable()  # the process is short, and half of its time would be garbage collection
    sys.exit(_main())
