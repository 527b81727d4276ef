"""Column lineage of compiled SQL, within limits of length and time."""

from __future__ import annotations

import logging
import subprocess
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.columns.lineage_process import LimitError, limited_lineage
from floe_orchestrator_dagster.lineage.columns.qualification import Query
from floe_orchestrator_dagster.lineage.columns.query_lineage import query_lineage
from floe_orchestrator_dagster.lineage.columns.query_size import LARGEST_QUERY, query_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage
    from floe_orchestrator_dagster.lineage.columns.qualification import Relation

logger = logging.getLogger(__name__)

_FIX = "Split the model, or set dbt.columns to false. Its tables are reported as usual."

# Characters, and expressions after the expansion of stars and aliases. Either takes less than half a second of CPU.
_SHORT_SQL = 20_000
_SMALL_QUERY = 20_000
_LONGEST_SQL = 500_000  # characters; the tree of a longer query takes hundreds of megabytes
# CPU time for one node. A union of a hundred models of a hundred columns, 300 kB of SQL, takes three seconds.
_CPU_SECONDS = 10


def column_lineage(  # noqa: PLR0913  # a query has these parts
    sql: str,
    adapter: str,
    relations: Iterable[Relation],
    output: Sequence[str] = (),
    *,
    node: str = "",
    cpu_seconds: int = _CPU_SECONDS,
    log: logging.Logger = logger,
) -> ColumnLineage | None:
    """Compute the column lineage of a query; None when sqlglot cannot parse or resolve it in time.

    Args:
        sql: Compiled SQL, one query.
        adapter: dbt's name of the adapter, such as ``duckdb``. SQL of an unknown adapter is parsed as standard SQL.
        relations: The tables that the query may read. Other tables in it are not inputs.
        output: The query's actual output columns, if known. They resolve a ``*`` over tables with unknown columns.
        node: dbt's unique id of the node, for the log.
        cpu_seconds: CPU time after which the computation of long or large queries ends.
        log: Receives a warning when the query exceeds a limit.
    """
    if len(sql) > _LONGEST_SQL:
        log.warning("%s has no column lineage: its SQL has more than %d characters. %s", node, _LONGEST_SQL, _FIX)
        return None
    try:
        return _computed(sql, adapter, list(relations), list(output), cpu_seconds)
    except LimitError:
        limits = f"more than {cpu_seconds} s of CPU or 1 GiB of memory"
        log.warning("%s has no column lineage: the analysis of its SQL takes %s. %s", node, limits, _FIX)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("%s has no column lineage: the process that analyzes its SQL failed (%s).", node, _status(error))
    except Exception as error:  # noqa: BLE001  # sqlglot raises many types; lineage must not fail a run
        logger.debug("%s has no column lineage: %s", node, type(error).__name__)  # the message would quote the SQL
    return None


def _computed(
    sql: str, adapter: str, relations: Sequence[Relation], output: Sequence[str], cpu_seconds: int
) -> ColumnLineage:
    if len(sql) <= _SHORT_SQL:
        query = Query(sql, adapter, relations)
        size = query_size(query)
        if size <= _SMALL_QUERY:
            return query_lineage(query, output)
        if size > LARGEST_QUERY:
            raise LimitError
    return limited_lineage(sql, adapter, relations, output, cpu_seconds)


def _status(error: OSError | subprocess.CalledProcessError) -> str:
    return f"exit status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(error)
