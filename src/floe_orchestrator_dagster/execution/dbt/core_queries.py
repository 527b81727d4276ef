"""Queries of dbt-core's process about tables that it has built and tests that have failed.

They run in the thread that built the table or ran the test, before dbt starts the nodes that depend on it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from floe_orchestrator_dagster.upstream.dbt_core import first_rows, table_columns, table_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from floe_orchestrator_dagster.execution.dbt.core_process import Settings
    from floe_orchestrator_dagster.upstream.dbt_core import RunningManifest

COLUMNS = "columns"
ROWS = "floe_rows"
FAILED_ROWS = "floe_failed_rows"

_Found = TypeVar("_Found")

_WITH_COLUMNS = ("model", "seed", "snapshot")
# Counts of rows take so long in one invocation, in all threads together. Tables after that have no count.
_SECONDS_OF_COUNTS = 60.0


class NodeQueries:
    """The queries of one dbt invocation. Methods are called from several threads."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        """Prepare the queries.

        Args:
            settings: Which queries are wanted.
            say: Prints a line.
        """
        self._settings, self._say = settings, say
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._seconds = 0.0

    def started(self, unique_id: str) -> None:
        """Note the start of a node. dbt reports a start and an end of a microbatch model and of each of its batches."""
        with self._lock:
            self._running[unique_id] += 1

    def answers(self, data: Mapping[str, Any], manifest: RunningManifest) -> dict[str, object]:
        """Query what is wanted about a node that has ended.

        Args:
            data: Data of dbt's event.
            manifest: The project.

        Returns:
            Fields for the event: :data:`COLUMNS`, :data:`ROWS`, :data:`FAILED_ROWS`. A query that fails gives None.
        """
        node, status = data["node_info"], data["run_result"].get("status")
        with self._lock:
            self._running[node["unique_id"]] -= 1
            is_batch = self._running[node["unique_id"]] > 0
        if self._settings.adapter is None or is_batch:
            return {}
        if node["resource_type"] == "test" and status in {"fail", "warn"}:
            return self._failed_rows(self._settings.adapter, node, manifest)
        if node["resource_type"] in _WITH_COLUMNS and status == "success":
            return self._table(self._settings.adapter, node)
        return {}

    def _failed_rows(self, adapter: str, node: Mapping[str, Any], manifest: RunningManifest) -> dict[str, object]:
        unique_id, stored = node["unique_id"], (node.get("node_relation") or {}).get("relation_name")
        code = f"select * from {stored}" if stored else manifest.compiled_code(unique_id)  # noqa: S608 - dbt's name
        if not code or not self._settings.shown_failures:
            return {}
        query = partial(first_rows, adapter, unique_id, code, self._settings.shown_failures)
        return {FAILED_ROWS: self._queried(f"failed rows of {unique_id}", query)}

    def _table(self, adapter: str, node: Mapping[str, Any]) -> dict[str, object]:
        relation, unique_id = node.get("node_relation") or {}, node["unique_id"]
        if not relation.get("relation_name"):
            return {}
        found: dict[str, object] = {}
        if self._settings.shows_columns:
            names = (relation["database"], relation["schema"], relation["alias"])
            found[COLUMNS] = self._queried(f"columns of {unique_id}", partial(table_columns, adapter, unique_id, names))
        if node["materialized"] in self._settings.counted and self._has_time():
            began = time.monotonic()
            found[ROWS] = self._queried(
                f"number of rows of {unique_id}", partial(table_rows, adapter, unique_id, relation["relation_name"])
            )
            self._spend(time.monotonic() - began)
        return found

    def _has_time(self) -> bool:
        with self._lock:
            return self._seconds < _SECONDS_OF_COUNTS

    def _spend(self, seconds: float) -> None:
        with self._lock:
            had_time, self._seconds = self._seconds < _SECONDS_OF_COUNTS, self._seconds + seconds
            is_spent = had_time and self._seconds >= _SECONDS_OF_COUNTS
        if is_spent:
            self._say(f"Row counts have taken {self._seconds:.0f} s, so rows of the remaining tables are not counted.")

    def _queried(self, what: str, query: Callable[[], _Found]) -> _Found | None:
        try:
            return query()
        except Exception as error:  # noqa: BLE001 - adapters raise what they like, and the node has its result
            self._say(f"Cannot query the {what}: {error}")
            return None
