"""Files of a generated project in a real shape: SQL, properties, seeds, tests and sources."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from real_shape import CORE, DOMAINS, LAYERS, NOUNS, PACKAGE, PROJECT, Node

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from real_shape import Project, Source

SOURCES_FILE = "sources.sql"
"""SQL that creates the sources that models read."""
_TIERS = {"staging": "bronze", "intermediate": "silver", "marts": "gold", "reports": None}
_WORDS = (
    *("the", "value", "of", "each", "record", "as", "billed", "counted", "once", "per", "day", "before", "taxes"),
    *("excluding", "test", "accounts", "converted", "to", "euros", "at", "the", "rate", "when", "it", "was", "closed"),
)
_FIRST_ROW = "1 as id, 'text' as name, 1.5 as amount, cast('2026-01-01' as timestamp) as updated_at"


def write_project(made: Project, project: Path) -> list[dict[str, object]]:
    """Write the files of a project.

    Returns:
        Name and tier of the root project's models, for the contract.
    """
    _write_file(project / "dbt_project.yml", _settings(PROJECT))
    _write_file(project / "packages.yml", {"packages": [{"local": f"packages/{PACKAGE}"}]})
    package = project / "packages" / PACKAGE
    _write_file(package / "dbt_project.yml", {**_settings(PACKAGE), "on-run-start": ["select 1"]})
    for model in made.models:
        root = project if model.package == PROJECT else package
        _write_file(root / "models" / model.folder / f"{model.file}.sql", _sql(made, model))
    for number in range(made.share(0.01)):
        text = f"{{{{ config(enabled=var('with_old_models', false)) }}}}\nselect {_FIRST_ROW}\n"
        _write_file(project / "models" / "old" / f"old_{number:03}.sql", text)
    for seed in made.seeds:
        rows = "id,name,amount,updated_at\n1,text,1.5,2026-01-01 00:00:00\n"
        _write_file(project / "seeds" / seed.folder / f"{seed.name}.csv", rows)
    for name, nodes in made.singular_tests.items():
        tables = (f"union all select id from {node.jinja} where id is null\n" for node in nodes)  # noqa: S608
        sql = "".join(["select 1 as id where false\n", *tables])
        _write_file(project / "tests" / f"{name}.sql", sql)
    _write_properties(made, project, package)
    _write_sources(made, project)
    own = dict.fromkeys((model.name, _TIERS[model.layer]) for model in made.models if model.package == PROJECT)
    return [{"name": name, "quality_tier": tier} for name, tier in own]


def _settings(name: str) -> dict[str, object]:
    layers = {layer: {"+materialized": "view" if layer == "staging" else "table", "+tags": [layer]} for layer in LAYERS}
    flags = {"require_generic_test_arguments_property": True}
    return {"name": name, "version": "1.0", "profile": PROJECT, "models": {name: layers}, "flags": flags}


def _write_file(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")


def _write_properties(made: Project, project: Path, package: Path) -> None:
    groups = [{"name": domain, "owner": {"email": f"{domain}@example.com"}} for domain in DOMAINS]
    exposures = [
        {
            "name": f"dashboard_{number}",
            "type": "dashboard",
            "owner": {"name": "Analytics"},
            "depends_on": [made.models[-1 - number].ref],
        }
        for number in range(min(len(made.models), made.share(0.02)))
        if made.models[-1 - number].package == PROJECT
    ]
    snapshots = [
        {
            "name": snapshot.name,
            "relation": next(one.ref for one in snapshot.parents if isinstance(one, Node)),
            "config": {"unique_key": "id", "strategy": "timestamp", "updated_at": "updated_at"},
        }
        for snapshot in made.snapshots
    ]
    _write_file(project / "models" / "properties.yml", {"version": 2, "groups": groups, "exposures": exposures})
    _write_file(project / "snapshots" / "snapshots.yml", {"version": 2, "snapshots": snapshots})
    seeds = [_properties(made, seed) for seed in made.seeds if seed.column_tests]
    _write_file(project / "seeds" / "seeds.yml", {"version": 2, "seeds": seeds})
    by_folder: dict[Path, list[Node]] = {}
    for model in made.models:
        root = project if model.package == PROJECT else package
        by_folder.setdefault(root / "models" / model.folder, []).append(model)
    for folder, models in by_folder.items():
        content = {"version": 2, "models": list(_models_properties(made, models))}
        _write_file(folder / "models.yml", content)


def _models_properties(made: Project, models: Iterable[Node]) -> Iterable[dict[str, Any]]:
    families: dict[str, list[dict[str, Any]]] = {}
    for model in models:
        found = _properties(made, model)
        if model.version:
            columns = found.pop("columns", [])
            family = families.setdefault(model.name, [])
            family.append({"v": model.version, "columns": columns})
        elif len(found) > 1:
            yield found
    for name, versions in families.items():
        yield {"name": name, "latest_version": len(versions), "versions": versions}


def _properties(made: Project, node: Node) -> dict[str, Any]:
    """Return the properties of a node: half of the models are described, many have no documented column."""
    found: dict[str, Any] = {"name": node.name}
    if made.chance(0.5):
        found["description"] = _sentence(made, 40)
    if made.chance(0.2) and node.package == PROJECT and node.layer != "seeds":
        found["config"] = {"group": node.folder.partition("/")[2], "meta": {"owner": f"{NOUNS[node.columns % 40]}s"}}
    is_documented = made.chance(0.45)
    documented = [*map(node.column, range(node.columns or len(CORE)))] if is_documented else [*node.column_tests]
    columns = [
        {
            "name": column,
            **({"description": _sentence(made, 25)} if is_documented else {}),
            **({"data_type": "varchar"} if is_documented and column not in CORE else {}),
            **({"data_tests": node.column_tests[column]} if column in node.column_tests else {}),
        }
        for column in documented
    ]
    return {**found, **({"columns": columns} if columns else {})}


def _sentence(made: Project, longest: int) -> str:
    random_ = made.random
    return " ".join(random_.choices(_WORDS, k=random_.randint(4, longest))).capitalize() + "."


def _write_sources(made: Project, project: Path) -> None:
    systems: dict[str, list[Source]] = {}
    for source in made.sources:
        systems.setdefault(source.system, []).append(source)
    statements = []
    for system, sources in systems.items():
        tables = [_source_properties(made, source) for source in sources]
        content = {"version": 2, "sources": [{"name": system, "tables": tables}]}
        _write_file(project / "models" / "staging" / "sources" / f"{system}.yml", content)
        statements.append(f"create schema if not exists {system};")
        statements += [
            f"create table if not exists {system}.{source.name} as select {_FIRST_ROW};"
            for source in sources
            if source.is_read or (system, source.name) in made.source_tests
        ]
    _write_file(project / SOURCES_FILE, "\n".join([*statements, ""]))


def _source_properties(made: Project, source: Source) -> dict[str, Any]:
    tests = made.source_tests.get((source.system, source.name))
    found: dict[str, Any] = {"name": source.name}
    if made.chance(0.3):
        found["description"] = _sentence(made, 20)
    if source.is_read and made.chance(0.3):
        found["columns"] = [{"name": column, "description": _sentence(made, 12)} for column in CORE]
    if tests:
        columns = found.setdefault("columns", [{"name": "id"}])
        columns[0]["data_tests"] = tests
    if made.chance(0.03):
        limit = {"warn_after": {"count": 36, "period": "hour"}}
        found["config"] = {"freshness": limit, "loaded_at_field": "updated_at"}
    return found


def _sql(made: Project, model: Node) -> str:
    """Return a model's SQL: a CTE per table that it reads, columns with their rules, and a final select."""
    config = "{{ config(materialized='ephemeral') }}\n\n" if model.is_ephemeral else ""
    if model.columns == len(CORE) and len(model.parents) == 1:
        return f"{config}select * from {model.parents[0].jinja}\n"  # noqa: S608
    own = [model.column(number) for number in range(len(CORE), model.columns)]
    rules = "".join(f",\n        {_rule(made)} as {column}" for column in own)
    core = ", ".join(f"combined.{column}" for column in CORE)
    shown = ",\n    ".join([*CORE, *own])
    return f"""{config}with

{_reads(model)},

computed as (

    select
        {core}{rules}
    from combined

)

select
    {shown}
from computed
"""  # noqa: S608


def _reads(model: Node) -> str:
    """Return the CTEs that read the parents, the last of which is ``combined``."""
    columns = ", ".join(CORE)
    refs = [parent.ref for parent in model.parents if isinstance(parent, Node)]
    if model.is_union and len(refs) == len(model.parents):
        listed = ",\n    ".join(refs)
        row = f"    select {columns} from {{{{ table }}}}\n"  # noqa: S608
        return (
            f"combined as (\n\n    {{%- set tables = [\n    {listed}\n    ] %}}\n"
            f"    {{%- for table in tables %}}\n{row}"
            "    {%- if not loop.last %}\n    union\n    {%- endif %}\n    {%- endfor %}\n\n)"
        )
    if model.is_union:
        parts = "\n    union\n".join(f"    select {columns} from {parent.jinja}" for parent in model.parents)  # noqa: S608
        return f"combined as (\n\n{parts}\n\n)"
    reads = [
        f"read_{number} as (\n\n    select {columns}\n    from {parent.jinja}\n\n)"  # noqa: S608
        for number, parent in enumerate(model.parents)
    ]
    joins = "\n".join(
        f"    left join read_{number} on read_0.id = read_{number}.id" for number in range(1, len(model.parents))
    )
    kept = ", ".join(f"read_0.{column}" for column in CORE)
    combined = f"combined as (\n\n    select {kept}\n    from read_0\n{joins}\n\n)"  # noqa: S608
    return ",\n\n".join([*reads, combined])


def _rule(made: Project) -> str:
    """Return an expression as people write them, of up to 400 characters."""
    random_ = made.random
    if made.chance(0.3):
        return f"cast(nullif(trim(cast(combined.{random_.choice(CORE)} as varchar)), '') as varchar)"
    branches = "".join(
        f"\n            when combined.amount > {random_.randint(1, 999)} then '{random_.choice(NOUNS)}'"
        for _ in range(random_.randint(1, 5))
    )
    return f"-- {_sentence(made, 16)}\n        case{branches}\n            else combined.name\n        end"
