"""Fingerprints of models, seeds and snapshots: hashes of everything in a dbt project that determines their rows.

A fingerprint changes with the code, the macros that it can call, the ephemeral models and functions that it reads, the
settings that change the table, the location of its sources, and dbt's minor version. It does not change with comments,
descriptions, tags or owners. Where that is not certain, it changes. Data, values of variables, the target and the
order in which ``adapter.dispatch`` searches packages do not change it: ``build_fingerprints.py`` adds the values.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.macros import ProjectMacros
from floe_orchestrator_dagster.product.places import without_places
from floe_orchestrator_dagster.product.references import function_version, functions_called, texts_in
from floe_orchestrator_dagster.product.sql_text import significant_sql
from floe_orchestrator_dagster.product.values_read import ValuesRead, values_read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

FINGERPRINT_FORMAT = 3
"""Version of the algorithm. A change gives each node another fingerprint."""

_BUILT = frozenset({"model", "seed", "snapshot"})
DESCRIBING = (
    *("access", "docs", "group", "meta", "tags", "description", "columns"),
    *("fqn", "path", "original_file_path", "patch_path", "package_name", "version", "latest_version"),
)
"""Fields that describe a node. They change its table only if code reads them."""
_NAMES = "|".join(DESCRIBING)
_READS = re.compile(rf"""\.({_NAMES})|["']({_NAMES})["']""")
_NODE, _WHOLE_NODE, _GRAPH, _CODE = "a node", "a whole node", "all nodes", "the code of a node"
# Objects of dbt's templates that contain fields of nodes. The name of a field alone, such as `columns`, can mean
# something else: it counts only in code that has access to one of these objects.
_ACCESS = {
    _NODE: re.compile(r"\b(?:model|config|context)\b"),
    _WHOLE_NODE: re.compile(
        r"""\bcontext\b|\bmodel\b(?!\s*(?:\.|\[\s*["']))|\bmodel\.(?:items|values|keys|get|to_dict|copy|pop)\b"""
        r"|\bmodel\.config\b(?!\s*[.\[])|\bconfig\b(?!\s*[.(\[=])"
    ),
    _GRAPH: re.compile(r"\bgraph\b"),
    _CODE: re.compile(r"""\.(?:raw|compiled)_(?:code|sql)\b|["'](?:raw|compiled)_(?:code|sql)["']"""),
}
_ACCESS_WORDS = ("model", "config", "context", "graph", "raw_", "compiled_")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_COLUMN_FIELDS = ("name", "data_type", "constraints", "quote")
_SOURCE_FIELDS = ("database", "schema", "identifier", "quoting", "loader", "external", "meta", "source_meta")


@dataclass(frozen=True)
class CodeFingerprint:
    """The fingerprint of a node's code, and the values that the code reads.

    Attributes:
        code: The fingerprint.
        reads: Values with which each invocation completes it.
        portable: The fingerprint without the places of tables. It is the same in all environments.
    """

    code: str
    reads: ValuesRead
    portable: str = ""


def fingerprints(manifest: Mapping[str, Any]) -> dict[str, CodeFingerprint]:
    """Compute the fingerprint of each model, seed and snapshot, by unique id.

    Args:
        manifest: The content of a dbt manifest, with code and macros.
    """
    macros = ProjectMacros(manifest)
    project, portable = _Project(manifest, macros), _Project(without_places(manifest), macros)
    return {
        unique_id: CodeFingerprint(
            project.fingerprint(unique_id), project.values_read(unique_id), portable.fingerprint(unique_id)
        )
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in _BUILT
    }


class _Project:
    """A project's manifest, and what several nodes share: digests and values of macros, hooks and ephemeral models."""

    def __init__(self, manifest: Mapping[str, Any], macros: ProjectMacros) -> None:
        self._manifest = manifest
        self._nodes = manifest["nodes"]
        self._sources = manifest.get("sources") or {}
        self._macros = macros
        self._read_by_macros = cache(self._read_by)
        self._values_of_macros = cache(self._values_in)
        self._digests: dict[str, str] = {}
        self._values: dict[str, ValuesRead] = {}
        self._functions = {
            key: [function_version(node), self._called([node.get("raw_code") or ""])]
            for key, node in (manifest.get("functions") or {}).items()
        }

    @cached_property
    def _common(self) -> str:
        """The part that all fingerprints have in common: versions, and the project's on-run hooks."""
        metadata, hooks = self._manifest["metadata"], self._hooks
        release = str(metadata.get("dbt_version")).split(".")[:2]
        called = self._called([code for _, code in hooks])
        return _digest([FINGERPRINT_FORMAT, release, metadata.get("adapter_type"), hooks, called])

    @cached_property
    def _hooks(self) -> list[tuple[str, str]]:
        nodes = self._nodes.items()
        return sorted((key, node.get("raw_code") or "") for key, node in nodes if node["resource_type"] == "operation")

    @cached_property
    def _read_by_all(self) -> ValuesRead:
        """The values that every node reads: through on-run hooks, and through macros that replace those of dbt."""
        hooks = [code for _, code in self._hooks]
        return values_read(hooks) | self._values_of_macros(self._macros.reached(hooks))

    @cached_property
    def _graph(self) -> str:
        """The digest of everything that code can read in dbt's ``graph``: nodes and sources, without their code."""
        every = {**self._nodes, **self._sources}
        fields = (*DESCRIBING, *_SOURCE_FIELDS, "name", "alias", "resource_type", "config")
        return _digest({key: [node.get(field) for field in fields] for key, node in every.items()})

    def fingerprint(self, unique_id: str) -> str:
        """Compute a node's fingerprint from its own parts and those of the ephemeral models that it reads."""
        whole = [unique_id, *sorted(self._inlined(unique_id))]
        called = sorted(functions_called(self._manifest, unique_id))
        functions = [(function, self._functions[function]) for function in called]
        return _digest([self._common, [(key, self._digest_of(key)) for key in whole], functions])

    def values_read(self, unique_id: str) -> ValuesRead:
        """Return the values that a node reads, itself or through ephemeral models, functions and macros."""
        read = self._read_by_all
        for key in (unique_id, *self._inlined(unique_id)):
            read |= self._values_read_by(key)
        functions = self._manifest.get("functions") or {}
        code = [functions[key].get("raw_code") or "" for key in functions_called(self._manifest, unique_id)]
        return read | values_read(code) | self._values_of_macros(self._macros.called(code))

    def _values_read_by(self, unique_id: str) -> ValuesRead:
        if unique_id not in self._values:
            node = self._nodes[unique_id]
            texts, listed = _texts(node), self._listed_macros(node)
            called = self._macros.called(texts, listed)
            self._values[unique_id] = values_read(texts) | self._values_of_macros(called)
        return self._values[unique_id]

    def _listed_macros(self, node: Mapping[str, Any]) -> list[str]:
        return [*((node.get("depends_on") or {}).get("macros") or ()), *self._macros.of_strategy(node["config"])]

    def _values_in(self, macros: tuple[str, ...]) -> ValuesRead:
        return values_read(self._macros.code[macro] for macro in macros)

    def _read_by(self, macros: tuple[str, ...]) -> frozenset[str]:
        return frozenset[str]().union(*(_reads(self._macros.code[macro]) for macro in macros))

    def _inlined(self, unique_id: str) -> set[str]:
        """Find the ephemeral models whose code becomes a part of the node's code."""
        found: set[str] = set()
        waiting = [unique_id]
        while waiting:
            for parent in _parents(self._nodes[waiting.pop()]):
                node = self._nodes.get(parent)
                if node and parent not in found and node["config"].get("materialized") == "ephemeral":
                    found.add(parent)
                    waiting.append(parent)
        return found

    def _digest_of(self, unique_id: str) -> str:
        if unique_id not in self._digests:
            self._digests[unique_id] = _digest(self._parts(self._nodes[unique_id]))
        return self._digests[unique_id]

    def _parts(self, node: Mapping[str, Any]) -> list[Any]:
        """Return a node's own part of the fingerprint."""
        config, code = node["config"], node.get("raw_code") or ""
        texts = _texts(node)
        macros = self._macros.reached(texts, self._listed_macros(node))
        read = self._read_by_macros(macros).union(*map(_reads, texts))
        fields = _fields(read)
        return [
            self._significant(node, texts, macros),
            None if code else node.get("checksum"),
            {name: value for name, value in config.items() if name not in DESCRIBING or name in fields},
            {name: node.get(name) for name in fields},
            _persisted(node),
            _enforced(node),
            [(parent, self._read_from(parent)) for parent in sorted(_parents(node))],
            self._macros.digest(macros),
            self._graph if _GRAPH in read else None,
        ]

    def _significant(self, node: Mapping[str, Any], texts: Sequence[str], macros: tuple[str, ...]) -> str:
        """Return the code of a node; without comments only if no template can read them from the node itself.

        A node that is declared reusable can have a materialization of the project, which can do anything with its code.
        """
        code, *settings = texts
        if (node.get("language") or "sql") != "sql" or is_declared_reusable(node):
            return code
        own = " ".join(_TEMPLATE.findall(code))
        read = self._read_by_macros(macros).union(_reads(own), *map(_reads, settings))
        return code if read & {_WHOLE_NODE, _CODE} else significant_sql(code)

    def _read_from(self, parent: str) -> list[Any]:
        """Return the settings of a node on which the rows of its readers depend."""
        source = self._sources.get(parent)
        config = (source or self._nodes.get(parent) or {}).get("config") or {}
        return [config.get("event_time"), [source.get(field) for field in _SOURCE_FIELDS] if source else None]

    def _called(self, texts: Sequence[str]) -> str:
        return self._macros.digest(self._macros.reached(texts))


def is_declared_reusable(node: Mapping[str, Any]) -> bool:
    """Return whether a node is declared to depend only on its code and its inputs."""
    return _declared(node).get("reuse") is True


def has_disjoint_partitions(node: Mapping[str, Any]) -> bool:
    """Return whether a node declares that a build of a partition only writes and replaces rows of this partition."""
    return _declared(node).get("partitions") == "disjoint"


def _declared(node: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = node["config"].get("meta") or {}
    return meta.get("dagster") or {}


def _texts(node: Mapping[str, Any]) -> list[str]:
    """Return the pieces of code of a node: its own, and settings, which can be templates."""
    settings = (*texts_in(node["config"]), *texts_in(node.get("unrendered_config")))
    return [node.get("raw_code") or "", *settings]


def _parents(node: Mapping[str, Any]) -> Sequence[str]:
    return (node.get("depends_on") or {}).get("nodes") or ()


@lru_cache(maxsize=10_000)
def _reads(code: str) -> frozenset[str]:
    """Return the names of nodes' fields in a piece of code, and what it has access to."""
    names = {name for found in _READS.findall(code) for name in found if name}
    if any(word in code for word in _ACCESS_WORDS):  # faster than the patterns
        names |= {access for access, pattern in _ACCESS.items() if pattern.search(code)}
    return frozenset(names)


def _fields(read: AbstractSet[str]) -> list[str]:
    """Return the describing fields of a node that code can read, from the result of :func:`_reads`."""
    if _WHOLE_NODE in read:
        return list(DESCRIBING)
    return [name for name in DESCRIBING if name in read] if _NODE in read else []


def _persisted(node: Mapping[str, Any]) -> list[Any]:
    """Return the descriptions that dbt writes to the database."""
    persisted, columns = node["config"].get("persist_docs"), (node.get("columns") or {}).values()
    return [
        node.get("description") if _setting(persisted, "relation") else None,
        [[column.get("name"), column.get("description")] for column in columns]
        if _setting(persisted, "columns")
        else None,
    ]


def _enforced(node: Mapping[str, Any]) -> list[Any] | None:
    """Return the constraints and columns with which dbt creates the table; None without an enforced contract."""
    if not _setting(node["config"].get("contract"), "enforced"):
        return None
    columns = (node.get("columns") or {}).values()
    return [node.get("constraints"), [[column.get(field) for field in _COLUMN_FIELDS] for column in columns]]


def _setting(section: object, name: str) -> bool:
    """Return a flag of a section of settings, or the section if it is a flag itself."""
    return bool(section.get(name) if isinstance(section, dict) else section)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
