"""Schemas of a pull request in PostgreSQL, marked by a comment. Only schemas with this mark are ever dropped."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem, PullRequestError
from floe_orchestrator_dagster.product import DbtConnection
from floe_orchestrator_dagster.pull_request.warehouse import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.pull_request.warehouse import TableName, Warehouse

_MARK = "floe-dagster ci"
# One statement, and so one transaction: another build cannot take over a schema in between. `cascade` would also drop
# objects of other schemas, such as a view of an analyst on these tables. Then nothing is dropped.
_REPLACE = """
do $floe$
declare
    own name[];
    found text;
    one name;
begin
    select coalesce(array_agg(nspname), '{{}}') into own
    from pg_namespace where left(obj_description(oid, 'pg_namespace'), {length}) = {mark};
    select string_agg(distinct dependent.identity, ', ') into found
    from pg_depend d,
        pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) read,
        pg_identify_object(d.classid, d.objid, d.objsubid) dependent
    where d.deptype in ('n', 'a') and read.schema = any(own) and coalesce(dependent.schema, '') <> all(own)
        and not exists (
            select 1 from unnest(own) other where strpos(dependent.identity, ' ' || quote_ident(other) || '.') > 0
        );
    if found is not null then
        raise exception 'schema % is left, because objects of others depend on it: %',
            array_to_string(own, ', '), found;
    end if;
    foreach one in array own loop
        execute format('drop schema %I cascade', one);
    end loop;
    select string_agg(nspname, ', ') into found from pg_namespace where nspname = any(array[{needed}]::name[]);
    if found is not null then
        raise exception 'the database has a schema that this command has not created: %', found;
    end if;
    {created}
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
    """

    name: str
    product: str
    run: str
    production: DbtConnection
    used: frozenset[str]
    warehouse: Callable[[DbtConnection], Warehouse]
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

    def origin(self, table: TableName) -> TableName:
        """Return the place in production of a table in the schema; see :meth:`place.Place.origin`."""
        schema = str(self.production.profile.outputs[self.production.profile.target or ""].get("schema") or "")
        return replace(table, schema=schema) if table.schema.lower() == self.name else table

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
        """Create the schemas of the tables, with the mark; see :meth:`place.Place.create`."""
        self._created = sorted({self.name, *(table.schema for table in tables)})
        self._replace(self._mark_of_all, self._created)

    def remove(self) -> None:
        """Drop the schemas that this build has created; see :meth:`place.Place.remove`."""
        if self._created:
            self._replace(self._mark, ())

    def remove_leftovers(self) -> None:
        """Drop the schemas of all builds with this name; see :meth:`place.Place.remove_leftovers`."""
        self._replace(self._mark_of_all, ())

    @property
    def _mark(self) -> str:
        """The comment of this build's schemas."""
        return f'{self._mark_of_all}"run": "{self.run}"}}'

    @property
    def _mark_of_all(self) -> str:
        """The start of the comments of all builds of this pull request."""
        return json.dumps({_MARK: self.name, "product": self.product}).removesuffix("}") + ", "

    def _replace(self, mark: str, needed: Sequence[str]) -> None:
        """Drop the schemas whose comment starts with a mark, and create others with this build's mark.

        Raises:
            PullRequestError: Other objects depend on a schema, or there is such a schema without the mark.
        """
        created = (
            f"create schema {quoted(one)}; comment on schema {quoted(one)} is {literal(self._mark)};" for one in needed
        )
        statement = _REPLACE.format(
            length=len(mark),
            mark=literal(mark),
            needed=", ".join(map(literal, needed)),
            created=" ".join(created),
        )
        self.warehouse(self.connection).run(statement)
