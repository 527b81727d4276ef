"""Schemas of a pull request in PostgreSQL, marked by a comment. Only schemas with this comment are ever dropped."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem, PullRequestError
from floe_orchestrator_dagster.product import DbtConnection
from floe_orchestrator_dagster.pull_request.warehouse import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from floe_orchestrator_dagster.pull_request.warehouse import TableName, Warehouse

_MARKER = "floe-dagster ci"
_EXISTING = "select nspname, coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace order by nspname"
# Views and foreign keys of other schemas that a `drop schema … cascade` of these schemas would drop, too.
_DEPENDENT = """
    select distinct n.nspname || '.' || c.relname
    from pg_depend d
    join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
    join pg_class c on c.oid = r.ev_class
    join pg_namespace n on n.oid = c.relnamespace
    join pg_class t on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid
    join pg_namespace own on own.oid = t.relnamespace
    where own.nspname in ({own}) and n.nspname not in ({own})
    union
    select distinct n.nspname || '.' || c.relname
    from pg_constraint f
    join pg_class c on c.oid = f.conrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_class t on t.oid = f.confrelid
    join pg_namespace own on own.oid = t.relnamespace
    where f.contype = 'f' and own.nspname in ({own}) and n.nspname not in ({own})
"""
# In one statement, so that no other build can take over the schema in between.
_DROP = """
    do $floe$ begin
        if obj_description({regnamespace}::regnamespace, 'pg_namespace') = {marker} then
            drop schema {schema} cascade;
        end if;
    end $floe$
"""


@dataclass
class Schemas:
    """The schemas of a pull request: the one that it names, and those that the project derives from it.

    Attributes:
        name: Name of the schema, which is the target's.
        product: The product's name.
        run: Id of this build.
        production: The dbt project, with production's profile.
        used: The schemas of production's tables and sources, in lower case.
        warehouse: Returns the warehouse for a profile.
        log: Reports what is removed.
    """

    name: str
    product: str
    run: str
    production: DbtConnection
    used: frozenset[str]
    warehouse: Callable[[DbtConnection], Warehouse]
    log: Callable[[str], None]
    _created: list[str] = field(default_factory=list)

    @property
    def description(self) -> str:
        """The place in a sentence."""
        return f"schema {', '.join(self._created) or self.name}"

    @property
    def connection(self) -> DbtConnection:
        """The dbt project, with a profile that writes to the schema."""
        dbt = self.production
        target = str(dbt.profile.target)
        outputs = {**dbt.profile.outputs, target: {**dbt.profile.outputs[target], "schema": self.name}}
        return DbtConnection(dbt.directory, replace(dbt.profile, outputs=outputs), choice=dbt.choice)

    def problems(self, nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        """List the nodes that would write to another schema; see :meth:`place.Place.problems`."""
        for unique_id, node in nodes.items():
            schema = str(node.get("schema") or "").lower()
            is_own = schema == self.name or schema.startswith(f"{self.name}_") or schema.endswith(f"_{self.name}")
            if not is_own or schema in self.used:
                what = f"its table is in the schema {node.get('schema')!r}, which is not only of the pull request"
                fix = (
                    "Let generate_schema_name derive the schema from target.schema, or select an output with FLOE_ENV."
                )
                yield Problem(unique_id, what, fix)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Check that the schema is not production's; see :meth:`place.Place.reserved`.

        A build with the same name that still runs loses its tables and fails. The newer one has the newer code.
        """
        if self.name in self.used:
            what = f"{self.name!r} is a schema of production"
            raise PullRequestError("--schema", [Problem("", what, "Use another name, such as pr_123.")])
        yield

    def create(self, tables: Iterable[TableName]) -> None:
        """Create the schemas of the tables, with the marker; see :meth:`place.Place.create`."""
        warehouse = self.warehouse(self.connection)
        needed = sorted({self.name, *(table.schema for table in tables)})
        existing = self._existing(warehouse)
        foreign = [schema for schema in needed if schema in existing and not self._is_own(existing[schema])]
        if foreign:
            what = f"the database has a schema that this command has not created: {', '.join(foreign)}"
            raise PullRequestError("--schema", [Problem("", what, "Use another name, or drop the schema yourself.")])
        left = self._drop(warehouse, {one: comment for one, comment in existing.items() if self._is_own(comment)})
        if left:
            raise PullRequestError("--schema", [Problem("", what, "Drop them yourself.") for what in left])
        self._created = needed
        created = (
            f"create schema {quoted(schema)}; comment on schema {quoted(schema)} is {literal(self._marker)};"
            for schema in needed
        )
        warehouse.run(" ".join(created))

    def remove(self) -> list[str]:
        """Drop the schemas that this build has created; see :meth:`place.Place.remove`."""
        if not self._created:
            return []
        warehouse = self.warehouse(self.connection)
        existing = self._existing(warehouse)
        own = {schema: existing[schema] for schema in self._created if existing.get(schema) == self._marker}
        return self._drop(warehouse, own)

    def remove_leftovers(self) -> list[str]:
        """Drop the schemas of all builds with this name, as :meth:`remove` does."""
        warehouse = self.warehouse(self.connection)
        existing = self._existing(warehouse)
        return self._drop(warehouse, {one: comment for one, comment in existing.items() if self._is_own(comment)})

    @property
    def _marker(self) -> str:
        return json.dumps({_MARKER: self.name, "product": self.product, "run": self.run})

    def _is_own(self, comment: str) -> bool:
        """Return whether a comment marks a schema of this pull request, of any build."""
        try:
            content = json.loads(comment)
        except ValueError:
            return False
        names = (content.get(_MARKER), content.get("product")) if isinstance(content, dict) else ()
        return names == (self.name, self.product)

    @staticmethod
    def _existing(warehouse: Warehouse) -> dict[str, str]:
        """Return the comments of all schemas, by the schema's name."""
        return {row[0]: row[1] for row in warehouse.rows(_EXISTING)}

    def _drop(self, warehouse: Warehouse, markers: Mapping[str, str]) -> list[str]:
        """Drop schemas that still have this marker, unless that would drop objects of other schemas."""
        if not markers:
            return []
        own = ", ".join(map(literal, markers))
        dependent = [name for (name,) in warehouse.rows(_DEPENDENT.format(own=own))]
        if dependent:
            return [f"schema {', '.join(markers)} is left, because other objects depend on it: {', '.join(dependent)}"]
        self.log(f"dropping schema {', '.join(markers)}")
        for schema, marker in markers.items():
            identifier = quoted(schema)
            warehouse.run(_DROP.format(regnamespace=literal(identifier), marker=literal(marker), schema=identifier))
        return []
