"""Places that a pull request's build writes to, and the check that it writes nowhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from floe_orchestrator_dagster.errors import Problem, PullRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from floe_orchestrator_dagster.product import DbtConnection
    from floe_orchestrator_dagster.pull_request.warehouse import TableName

_NAME = re.compile(r"[a-z][a-z0-9_]{2,39}")
# Schemas and catalogs of databases, and usual names of production's.
_RESERVED = frozenset({"main", "public", "temp", "system", "memory", "information_schema", "prod", "production"})


class Destination(Protocol):
    """A destination for a pull request's tables: a DuckDB file, or schemas of a database."""

    @property
    def connection(self) -> DbtConnection:
        """The dbt project, with a profile that writes to this destination."""
        ...

    @property
    def description(self) -> str:
        """The destination in a sentence, such as ``schema pr_123``."""
        ...

    def problems(self, nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        """List the nodes that would write to another destination.

        Args:
            nodes: Nodes of dbt's manifest, parsed with :attr:`connection`, by unique id.
        """
        ...

    def reserved(self) -> AbstractContextManager[None]:
        """Keep other builds from this destination until the end of the context.

        Raises:
            PullRequestError: Another build uses the destination, or it has data that this command has not created.
        """
        ...

    def create(self, tables: Iterable[TableName]) -> None:
        """Create the destination, empty, for these tables. Leftovers of a killed build are removed.

        Raises:
            PullRequestError: The destination has data that this command has not created.
        """
        ...

    def original(self, source: Mapping[str, Any], before: TableName | None) -> TableName | None:
        """Return production's table of a source that the pull request reads in this destination.

        Args:
            source: The source in dbt's manifest, parsed with :attr:`connection`.
            before: Its table in production's manifest.

        Returns:
            The table; None if the source is elsewhere, or has no table in production.
        """
        ...

    def check(self) -> None:
        """Check that the tables of this build are still its own.

        Raises:
            PullRequestError: Another build has replaced them.
        """
        ...

    def remove(self) -> None:
        """Check the tables of this build, and remove them.

        Raises:
            PullRequestError: A part was not removed, because it has data that this command has not created, or another
                build has replaced the tables.
        """
        ...

    def remove_leftovers(self) -> None:
        """Remove the tables of killed and kept builds, as :meth:`remove` does."""
        ...


def checked_name(name: str) -> str:
    """Check the name of a pull request's destination.

    Raises:
        PullRequestError: The name is not valid.
    """
    if name in _RESERVED or name.startswith("pg_") or not _NAME.fullmatch(name):
        what = f"{name!r} is not a name for the tables of a pull request"
        fix = (
            "Use 3 to 40 lower-case letters, digits and underscores, such as pr_123, and no name of the database's own."
        )
        raise PullRequestError("--schema", [Problem("", what, fix)])
    return name
