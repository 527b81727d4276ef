"""Epochs of databases: how often a database has been replaced by another or older one, such as a restored backup."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.step.build_marks import DAMAGED, hashed_key, read_marks, write_marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagster as dg


@dataclass(frozen=True)
class Database:
    """A database, and signs by which an older one is noticed that replaces it.

    Attributes:
        name: Names it among others.
        identity: Changes with the database; empty for a database without such a sign.
        written: Increases with each change of the database; None if it does not exist.
    """

    name: str
    identity: str
    written: int | None


def database_epoch(instance: dg.DagsterInstance, database: Database | None) -> int:
    """Return how often a database has been replaced by another or older one, such as a restored backup.

    Builds of earlier epochs do not count: the database has the tables of an unknown run.
    """
    if database is None:
        return 0
    known = _known_database(instance, database.name)
    if known == DAMAGED:
        return int(time.time())  # larger than every earlier one
    epoch, written = int(known.get("epoch") or 0), known.get("written")
    if "written" not in known or (written is None and database.written is None):
        return epoch
    is_older = written is not None and (database.written is None or database.written < written)
    return epoch + 1 if is_older or known.get("identity", database.identity) != database.identity else epoch


def note_epoch(instance: dg.DagsterInstance, database: Database | None, epoch: int) -> None:
    """Store a new epoch before dbt writes to the database, which then looks like the newest one."""
    if database is not None and epoch != int(_known_database(instance, database.name).get("epoch") or 0):
        note_database(instance, database, epoch)


def note_database(instance: dg.DagsterInstance, database: Database | None, epoch: int) -> None:
    """Store the state of a database after a run, for :func:`database_epoch`.

    A run that started before the database was replaced does not store its epoch.
    """
    if database is not None and epoch >= int(_known_database(instance, database.name).get("epoch") or 0):
        state = {"epoch": epoch, "written": database.written, "identity": database.identity}
        write_marks(instance, {hashed_key(database.name): state})


def _known_database(instance: dg.DagsterInstance, name: str) -> Mapping[str, Any]:
    """Return the stored state of a database; empty without one."""
    key = hashed_key(name)
    found = read_marks(instance, [key]).get(key)
    return found if isinstance(found, dict) else {}
