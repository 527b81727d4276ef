"""Methods of dbt selections: which members of the graph match a value.

Methods: https://docs.getdbt.com/reference/node-selection/methods
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.selection.criteria import UnreadableSelectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.product.selection.criteria import Criterion
    from floe_orchestrator_dagster.product.selection.members import Members, Node

    Method = Callable[[Criterion, Members], Iterable[str]]

_RESOURCE_TYPES = frozenset(
    {
        *("model", "analysis", "test", "snapshot", "operation", "seed", "sql_operation", "doc", "source", "macro"),
        *("exposure", "metric", "group", "saved_query", "semantic_model", "unit_test", "fixture", "function"),
    }
)
# Whether generic, singular and unit tests match, by the value of `test_type`.
_TEST_TYPES: Mapping[str, tuple[bool, bool, bool]] = {
    "generic": (True, False, False),
    "schema": (True, False, False),
    "singular": (False, True, False),
    "data": (True, True, False),
    "unit": (False, False, True),
}
_VERSIONS = ("latest", "prerelease", "old", "none")
_COMPARING = ("state", "result", "source_status")
_WILDCARDS = ("*", "?", "[", "]")
_SOURCE_PARTS = 3
_DEFAULT_ACCESS = "protected"


def matching(criterion: Criterion, members: Members) -> Iterable[str]:
    """Return the unique ids of the members that a criterion matches, without its graph operators.

    Raises:
        UnreadableSelectionError: The method or its value is not valid.
    """
    method = _METHODS.get(criterion.method)
    if method is not None:
        return method(criterion, members)
    if criterion.method in _COMPARING:
        raise UnreadableSelectionError(
            f"the method {criterion.method!r} compares with an earlier run, and there is none"
        )
    raise UnreadableSelectionError(f"{criterion.method!r} is not a valid method name")


def _fqn(criterion: Criterion, members: Members) -> Iterator[str]:
    names = ("nodes", "exposures", "metrics", "unit_tests", "semantic_models", "saved_queries", "functions")
    for unique_id, node in members.of(*names):
        fqn: list[str] = node["fqn"]
        is_versioned = _is_versioned(node)
        if any(_is_named(name, criterion.value, is_versioned=is_versioned) for name in (fqn, fqn[1:])):
            yield unique_id


def _is_versioned(node: Node) -> bool:
    return node["resource_type"] == "model" and node.get("version") is not None


def _is_named(fqn: Sequence[str], value: str, *, is_versioned: bool) -> bool:
    """Return whether a value is a node's name, a prefix of its FQN, or a pattern that matches its FQN."""
    if not fqn:
        return False
    parts = value.split(".")
    # The last part of a version's FQN is `v2`, and the part before it the model's name.
    leaf = fqn[-2] if is_versioned and len(fqn) > 1 else fqn[-1]
    if leaf == value or (is_versioned and "_".join(fqn[-2:]) == "_".join(parts[-2:])):
        return True
    flat = [part for segment in fqn for part in segment.split(".")]
    if len(flat) < len(parts):
        return False
    pattern = next((row for row, part in enumerate(parts) if any(sign in part for sign in _WILDCARDS)), len(parts))
    if flat[:pattern] != parts[:pattern]:
        return False
    if pattern == len(parts) or fnmatch(".".join(flat[pattern:]), ".".join(parts[pattern:])):
        return True
    return len(parts) == 1 and fnmatch(leaf, value)


def _tag(criterion: Criterion, members: Members) -> Iterator[str]:
    for unique_id, node in members.of():
        # dbt-core writes the tags of unit tests into their config only.
        of_config = (node.get("config") or {}).get("tags") if node["resource_type"] == "unit_test" else None
        tags = node.get("tags") or of_config or ()
        if any(fnmatch(tag, criterion.value) for tag in ([tags] if isinstance(tags, str) else tags)):
            yield unique_id


def _group(criterion: Criterion, members: Members) -> Iterator[str]:
    for unique_id, node in members.of("nodes", "metrics"):
        group = (node.get("config") or {}).get("group")
        if group and fnmatch(group, criterion.value):
            yield unique_id


def _access(criterion: Criterion, members: Members) -> Iterator[str]:
    for unique_id, node in members.of("nodes"):
        if node["resource_type"] == "model" and (node.get("access") or _DEFAULT_ACCESS) == criterion.value:
            yield unique_id


def _source(criterion: Criterion, members: Members) -> Iterator[str]:
    parts = criterion.value.split(".")
    if len(parts) > _SOURCE_PARTS:
        form = "`source`, `source.table` or `package.source.table`"
        raise UnreadableSelectionError(f"{criterion.value!r} is not the name of a source, which is {form}")
    table = parts.pop() if len(parts) > 1 else "*"
    source = parts.pop()
    package = parts.pop() if parts else "*"
    for unique_id, node in members.of("sources"):
        names = ((node["package_name"], package), (node["source_name"], source), (node["name"], table))
        if all(fnmatch(name, pattern) for name, pattern in names):
            yield unique_id


def _named_in(collection: str) -> Method:
    """Return the method that matches the members of a collection by name, or by package and name."""

    def method(criterion: Criterion, members: Members) -> Iterator[str]:
        package, _, name = criterion.value.rpartition(".")
        if "." in package:
            what = f"{criterion.value!r} has more parts than a package and a name"
            raise UnreadableSelectionError(what)
        for unique_id, node in members.of(collection):
            if fnmatch(node["package_name"], package or "*") and fnmatch(node["name"], name):
                yield unique_id

    return method


def _path(criterion: Criterion, members: Members) -> Iterator[str]:
    try:
        found = members.project.glob(criterion.value)
        paths = {path.relative_to(members.project) for path in found}
    except (ValueError, NotImplementedError, IndexError, OSError) as error:
        raise UnreadableSelectionError(" ".join(str(error).split())) from error
    for unique_id, node in members.of():
        file = Path(node.get("original_file_path") or "")
        patch = (node.get("patch_path") or "").rpartition("://")[2]
        if file in paths or (patch and Path(patch) in paths) or any(parent in paths for parent in file.parents):
            yield unique_id


def _file(criterion: Criterion, members: Members) -> Iterator[str]:
    for unique_id, node in members.of():
        file = PurePath(node.get("original_file_path") or "")
        if fnmatch(file.name, criterion.value) or fnmatch(file.stem, criterion.value):
            yield unique_id


def _package(criterion: Criterion, members: Members) -> Iterator[str]:
    value = members.project_name if criterion.value == "this" and members.project_name else criterion.value
    return (unique_id for unique_id, node in members.of() if fnmatch(node["package_name"], value))


def _config(criterion: Criterion, members: Members) -> Iterator[str]:
    value = criterion.value
    wanted = value if criterion.number is None else criterion.number
    flag = {"true": True, "false": False}.get(value.lower())
    ignores_case = criterion.arguments == ("severity",)
    for unique_id, node in members.of("nodes", "sources"):
        found = _setting(node.get("config") or {}, criterion.arguments)
        settings = found if isinstance(found, list) else [found]
        if any(
            setting == wanted
            or (flag is not None and setting is flag)
            or (ignores_case and isinstance(setting, str) and setting.upper() == value.upper())
            for setting in settings
        ):
            yield unique_id


def _setting(config: object, names: Sequence[str]) -> object:
    """Look up a nested setting; None when the configuration does not have it."""
    for name in names:
        config = config.get(name) if isinstance(config, dict) else None
    return config


def _test_name(criterion: Criterion, members: Members) -> Iterator[str]:
    for unique_id, node in members.of("nodes", "unit_tests"):
        if node["resource_type"] == "unit_test":
            name: Any = node["name"]
        else:
            name = (node.get("test_metadata") or {}).get("name") if node["resource_type"] == "test" else None
        if name is not None and fnmatch(name, criterion.value):
            yield unique_id


def _test_type(criterion: Criterion, members: Members) -> Iterator[str]:
    if criterion.value not in _TEST_TYPES:
        raise UnreadableSelectionError(f"{criterion.value!r} is not a test type: generic, singular, data or unit")
    generic, singular, unit = _TEST_TYPES[criterion.value]
    for unique_id, node in members.of("nodes"):
        if node["resource_type"] == "test" and (generic if node.get("test_metadata") else singular):
            yield unique_id
    if unit:
        yield from (unique_id for unique_id, _ in members.of("unit_tests"))


def _resource_type(criterion: Criterion, members: Members) -> Iterator[str]:
    if criterion.value not in _RESOURCE_TYPES:
        raise UnreadableSelectionError(f"{criterion.value!r} is not a resource type, such as model, seed or snapshot")
    return (unique_id for unique_id, node in members.of() if node["resource_type"] == criterion.value)


def _version(criterion: Criterion, members: Members) -> Iterator[str]:
    if criterion.value not in _VERSIONS:
        raise UnreadableSelectionError(f"{criterion.value!r} is not one of the versions {', '.join(_VERSIONS)}")
    for unique_id, node in members.of("nodes"):
        if node["resource_type"] == "model" and _kind_of_version(node) == criterion.value:
            yield unique_id


def _kind_of_version(node: Node) -> str:
    version, latest = node.get("version"), node.get("latest_version")
    if version is None:
        return "none"
    if version == latest:
        return "latest"
    if latest is None:
        return ""
    try:
        is_older = float(version) < float(latest)
    except ValueError:
        is_older = str(version) < str(latest)
    return "old" if is_older else "prerelease"


_METHODS: Mapping[str, Method] = {
    "fqn": _fqn,
    "tag": _tag,
    "group": _group,
    "access": _access,
    "source": _source,
    "path": _path,
    "file": _file,
    "package": _package,
    "config": _config,
    "test_name": _test_name,
    "test_type": _test_type,
    "resource_type": _resource_type,
    "exposure": _named_in("exposures"),
    "metric": _named_in("metrics"),
    "semantic_model": _named_in("semantic_models"),
    "saved_query": _named_in("saved_queries"),
    "unit_test": _named_in("unit_tests"),
    "version": _version,
}
