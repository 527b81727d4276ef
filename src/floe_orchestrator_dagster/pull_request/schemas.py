"""Schemas of a pull request in PostgreSQL, marked by a comment. Only schemas with this mark are ever dropped."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem, PullRequestError
from floe_orchestrator_dagster.product import DbtConnection
from floe_orchestrator_dagster.pull_request.warehouse import TableName, literal, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.pull_request.warehouse import Warehouse

_MARK = "floe-dagster ci"
_SESSION = "floe-ci"
# One statement, and so one transaction: another build cannot take over a schema in between. `cascade` would also drop
# objects of other schemas, such as a view of an analyst on these tables. Then nothing is dropped.
_REPLACE = """
do $floe$
declare
    own oid[];
    names text[];
    found text;
    one text;
begin
    select coalesce(array_agg(oid), '{{}}'), coalesce(array_agg(nspname::text), '{{}}') into own, names
    from pg_namespace where starts_with(obj_description(oid, 'pg_namespace'), {mark});
    select string_agg(distinct application_name, ', ') into found
    from pg_stat_activity
    where datname = current_database() and starts_with(application_name, {sessions})
        and application_name <> {session};
    if {is_exclusive} and found is not null then
        raise exception 'another build uses the schema {name}. Wait for its end, or end its sessions, which have the '
            'application_name %', found;
    end if;
    select string_agg(distinct dependent.identity, ', ') into found
    from (
        select d.*
        from pg_depend d, pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) read
        where cardinality(own) > 0 and d.deptype <> 'i' and (
            read.schema = any(names) or (d.refclassid = 'pg_namespace'::regclass and d.refobjid = any(own))
        )
        offset 0
    ) d,
        pg_identify_object(d.classid, d.objid, d.objsubid) dependent,
        pg_identify_object_as_address(d.classid, d.objid, d.objsubid) address
    -- a rule, a trigger, a policy and a default have the schema of their table
    where coalesce(dependent.schema, address.object_names[1], '') <> all(names)
        and d.classid <> 'pg_default_acl'::regclass;
    if found is not null then
        raise exception 'schema % was not dropped, because objects in other schemas depend on it: %',
            array_to_string(names, ', '), found;
    end if;
    foreach one in array names loop
        execute format('drop schema %I cascade', one);
    end loop;
    select string_agg(nspname, ', ') into found from pg_namespace where nspname = any(array[{needed}]::name[]);
    if found is not null then
        raise exception 'the database has a schema that this command has not created: %', found;
    end if;
    {created}
end $floe$
"""
_CHECK = """
do $floe$
declare
    found text;
begin
    select string_agg(one, ', ') into found
    from unnest(array[{names}]) one
    where not exists (
        select 1 from pg_namespace
        where nspname = one and obj_description(oid, 'pg_namespace') = {mark}
    );
    if found is not null then
        raise exception 'another build has replaced or removed the schema % meanwhile. The results are not reliable. '
            'Build again', found;
    end if;
end $floe$
"""
# The tables of a build that has taken over may have been written by this one: with this mark, it fails as well.
_SPOIL = """
do $floe$
declare
    one text;
begin
    for one in
        select nspname from pg_namespace
        where nspname = any(array[{names}]::name[])
            and starts_with(obj_description(oid, 'pg_namespace'), {mark_of_all})
            and obj_description(oid, 'pg_namespace') <> {mark}
    loop
        execute format('comment on schema %I is %L', one, {spoiled});
    end loop;
end $floe$
"""


@dataclass
class Schemas:
    """The schemas of a pull request: the one that it names, and those that the project derives from it.

    Attributes:
        name: Name of the schema, which is the target's.
        product: The product's name.
        run: Id of this build, of 14 characters.
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
    _needed: list[str] = field(default_factory=list)
    _is_created: bool = False

    @property
    def description(self) -> str:
        """The destination in a sentence."""
        return f"schema {', '.join(self._needed) or self.name}"

    @property
    def connection(self) -> DbtConnection:
        """The dbt project, with a profile that writes to the schema."""
        dbt = self.production
        target = str(dbt.profile.target)
        own = {**dbt.profile.outputs[target], "schema": self.name, "application_name": f"{self._sessions}{self.run}"}
        outputs = {**dbt.profile.outputs, target: own}
        return DbtConnection(dbt.directory, replace(dbt.profile, outputs=outputs), choice=dbt.choice)

    def problems(self, nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        """List the nodes that would write to another schema; see :meth:`Destination.problems`."""
        for unique_id, node in nodes.items():
            if not self._is_own(TableName.of(node)):
                what = f"its table is in the schema {node.get('schema')!r}, which is not only of the pull request"
                fix = (
                    "Let generate_schema_name derive the schema from target.schema, or select an output with FLOE_ENV."
                )
                yield Problem(unique_id, what, fix)

    def _is_own(self, table: TableName) -> bool:
        """Whether the name of a table's schema is one of this pull request."""
        schema = table.schema.lower()
        has_name = schema == self.name or schema.startswith(f"{self.name}_") or schema.endswith(f"_{self.name}")
        return has_name and schema not in self.used

    def original(self, source: Mapping[str, Any], before: TableName | None) -> TableName | None:
        """Return production's table, if its schema depends on the target; see :meth:`Destination.original`."""
        return before if self._is_own(TableName.of(source)) else None

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Check that the schema is not production's; see :meth:`Destination.reserved`.

        :meth:`create` refuses the name while sessions of another build with it are open. Between two commands of dbt a
        build has none. If another one starts at such a time, both fail.
        """
        if self.name in self.used:
            what = f"{self.name!r} is a schema of production"
            raise PullRequestError("--schema", [Problem("", what, "Use another name, such as pr_123.")])
        yield

    def create(self, tables: Iterable[TableName]) -> None:
        """Create the schemas of the tables, with the mark; see :meth:`Destination.create`."""
        self._needed = sorted({self.name, *(table.schema for table in tables)})
        fix = "Use another --schema, or check the connection, and that the user can create schemas."
        self._run([self._replace(self._mark_of_all, self._needed)], fix)
        self._is_created = True

    def check(self) -> None:
        """Check that no other build has replaced the schemas; see :meth:`Destination.check`."""
        self._run(self._checks, "Run one build with this --schema at a time.")

    def remove(self) -> None:
        """Drop the schemas that this build has created; see :meth:`Destination.remove`."""
        if self._needed:
            checks = self._checks if self._is_created else ()
            self._run([*checks, self._replace(self._mark)], self._how_to_clean)

    def remove_leftovers(self) -> None:
        """Drop the schemas of all builds with this name; see :meth:`Destination.remove_leftovers`."""
        self._run([self._replace(self._mark_of_all)], self._how_to_clean)

    def _run(self, statements: Sequence[str], fix: str) -> None:
        self.warehouse(self.connection).run(statements, fix)

    @property
    def _how_to_clean(self) -> str:
        return f"Then run `floe-dagster ci --clean --schema {self.name}`."

    @property
    def _sessions(self) -> str:
        """The start of the application_name of all builds with this name. PostgreSQL keeps 63 characters."""
        return f"{_SESSION} {self.name} "

    @property
    def _mark(self) -> str:
        """The comment of this build's schemas."""
        return f'{self._mark_of_all}"run": "{self.run}"}}'

    @property
    def _mark_of_all(self) -> str:
        """The start of the comments of all builds of this pull request."""
        return json.dumps({_MARK: self.name, "product": self.product}).removesuffix("}") + ", "

    @property
    def _checks(self) -> Sequence[str]:
        """The statements that fail if another build has taken over, and then let that one fail as well."""
        names = ", ".join(map(literal, self._needed))
        mark, mark_of_all = literal(self._mark), literal(self._mark_of_all)
        spoiled = literal(f'{self._mark_of_all}"run": ""}}')
        return (
            _CHECK.format(names=names, mark=mark),
            _SPOIL.format(names=names, mark=mark, mark_of_all=mark_of_all, spoiled=spoiled),
        )

    def _replace(self, mark: str, needed: Sequence[str] = ()) -> str:
        """Return the statement that drops the schemas whose comment starts with a mark, and creates others.

        It fails if another build runs, if other objects depend on a schema, or if there is such a schema without the
        mark.
        """
        created = (
            f"create schema {quoted(one)}; comment on schema {quoted(one)} is {literal(self._mark)};" for one in needed
        )
        return _REPLACE.format(
            mark=literal(mark),
            name=self.name,
            sessions=literal(self._sessions),
            session=literal(f"{self._sessions}{self.run}"),
            is_exclusive=str(mark == self._mark_of_all).lower(),
            needed=", ".join(map(literal, needed)),
            created=" ".join(created),
        )
