"""Types of the fields in dbt's manifest that this package, dagster-dbt and dbt's node selection read.

Other keys are accepted, and so is null for a value that is not set. dbt describes all fields:
https://docs.getdbt.com/reference/artifacts/manifest-json
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict
from typing_extensions import NotRequired, TypedDict


def _strings(value: object) -> object:
    if value is None or isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise ValueError("must be a string or a list of strings")


Strings = Annotated[Any, AfterValidator(_strings)]


class DagsterRef(TypedDict):
    """The model on which a test is an asset check, ``meta.dagster.ref`` of the test."""

    name: str
    package: NotRequired[str | None]
    version: NotRequired[Any]


class DagsterMeta(TypedDict):
    """Fields of ``meta.dagster``: those that dagster-dbt reads, ``reuse`` and ``partitions``."""

    asset_key: NotRequired[Strings]
    group: NotRequired[str | None]
    owners: NotRequired[Any]  # `assets/attributes.py` checks each owner
    auto_materialize_policy: NotRequired[dict[str, Any]]
    ref: NotRequired[DagsterRef | None]
    reuse: NotRequired[bool | None]
    partitions: NotRequired[Literal["disjoint"] | None]


class Meta(TypedDict):
    """A node's ``meta``: any keys, of which only ``dagster`` and ``description`` are read."""

    dagster: NotRequired[DagsterMeta]
    description: NotRequired[Any]


class Config(TypedDict):
    """A node's configuration."""

    materialized: NotRequired[str | None]
    schema: NotRequired[str | None]
    group: NotRequired[str | None]
    severity: NotRequired[str | None]
    meta: NotRequired[Meta | None]


class Column(TypedDict):
    """A column's description. Tags may have any type: dbt accepts that in a column's ``config``."""

    name: NotRequired[str]
    data_type: NotRequired[str | None]
    description: NotRequired[str | None]
    tags: NotRequired[list[Any] | None]


class DependsOn(TypedDict):
    """The nodes and macros that a node depends on."""

    nodes: NotRequired[list[str]]
    macros: NotRequired[list[str] | None]


class GenericTest(TypedDict):
    """A generic test's name and arguments."""

    name: str
    namespace: NotRequired[str | None]
    kwargs: NotRequired[dict[str, Any] | None]


class Checksum(TypedDict):
    """The checksum of a node's file."""

    checksum: NotRequired[str | None]


class Named(TypedDict):
    """Fields that all members of dbt's graph have."""

    name: str
    resource_type: str
    package_name: str
    fqn: list[str]
    original_file_path: NotRequired[str | None]
    meta: NotRequired[Meta | None]
    tags: NotRequired[Strings]
    description: NotRequired[str | None]


class Node(Named):
    """A model, seed, snapshot, test, analysis or operation."""

    config: Config
    unique_id: NotRequired[str]
    path: NotRequired[str | None]
    patch_path: NotRequired[str | None]
    database: NotRequired[str | None]
    schema: NotRequired[str | None]
    alias: NotRequired[str | None]
    identifier: NotRequired[str | None]
    relation_name: NotRequired[str | None]
    group: NotRequired[str | None]
    access: NotRequired[str | None]
    columns: NotRequired[dict[str, Column] | None]
    depends_on: NotRequired[DependsOn | None]
    attached_node: NotRequired[str | None]
    column_name: NotRequired[str | None]
    test_metadata: NotRequired[GenericTest | None]
    checksum: NotRequired[Checksum | None]
    unrendered_config: NotRequired[dict[str, Any] | None]
    raw_code: NotRequired[str | None]
    language: NotRequired[str | None]


class Limit(TypedDict):
    """The age at which data is too old."""

    count: NotRequired[int | None]
    period: NotRequired[str | None]


class Freshness(TypedDict):
    """The freshness limits of a source."""

    warn_after: NotRequired[Limit | None]
    error_after: NotRequired[Limit | None]


class Source(Node):
    """A table of a source."""

    source_name: str
    freshness: NotRequired[Freshness | None]


class Consumer(Named):
    """An exposure, semantic model, metric or saved query."""

    config: NotRequired[dict[str, Any] | None]
    type: NotRequired[str | None]
    label: NotRequired[str | None]
    maturity: NotRequired[str | None]
    url: NotRequired[str | None]
    owner: NotRequired[dict[str, Any] | None]
    type_params: NotRequired[dict[str, Any] | None]
    query_params: NotRequired[dict[str, Any] | None]


class UnitTest(Named):
    """A unit test."""

    config: NotRequired[Config | None]
    depends_on: NotRequired[DependsOn | None]


class Macro(TypedDict):
    """A macro."""

    macro_sql: NotRequired[str | None]
    depends_on: NotRequired[DependsOn | None]


class Owner(TypedDict):
    """The owner of a group."""

    email: NotRequired[Strings]


class Group(TypedDict):
    """A group of models."""

    name: str
    owner: NotRequired[Owner]


class Metadata(TypedDict):
    """The manifest's metadata about the project."""

    project_name: NotRequired[str | None]
    adapter_type: NotRequired[str | None]


class ManifestShape(TypedDict):
    """The collections of a manifest that are read."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]  # how pydantic configures a TypedDict

    metadata: Metadata
    nodes: dict[str, Node]
    sources: dict[str, Source]
    parent_map: dict[str, list[str]]
    child_map: dict[str, list[str]]
    macros: NotRequired[dict[str, Macro] | None]
    groups: NotRequired[dict[str, Group] | None]
    exposures: NotRequired[dict[str, Consumer] | None]
    metrics: NotRequired[dict[str, Consumer] | None]
    semantic_models: NotRequired[dict[str, Consumer] | None]
    saved_queries: NotRequired[dict[str, Consumer] | None]
    functions: NotRequired[dict[str, Node] | None]
    unit_tests: NotRequired[dict[str, UnitTest] | None]
    selectors: NotRequired[dict[str, Any] | None]
