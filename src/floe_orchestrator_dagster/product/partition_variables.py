"""Nodes whose inputs or settings may depend on the dbt variables of a partition.

The manifest has the inputs and settings for the default values of variables. dbt parses the project again with those of
a run's partition, and may then read other tables, name tables otherwise, or build them in another way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import ProjectError
from floe_orchestrator_dagster.product.build_fingerprints import settings_files
from floe_orchestrator_dagster.product.references import texts_in
from floe_orchestrator_dagster.product.trimming import READS, VARYING_READS
from floe_orchestrator_dagster.product.values_read import values_read_in_yaml
from floe_orchestrator_dagster.product.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from floe_orchestrator_dagster.product.manifest import Manifest
    from floe_orchestrator_dagster.product.values import DbtConnection

_BUILT = frozenset({"model", "seed", "snapshot"})
# Keys of YAML files with lists of tests, whose variables change no table.
_TESTS = frozenset({"data_tests", "tests", "unit_tests"})


def varying_nodes(manifest: Manifest, dbt: DbtConnection, names: AbstractSet[str]) -> dict[str, str]:
    """Return why the inputs or settings of nodes may depend on variables, by unique id; the other nodes are left out.

    A setting can be the name of the node's table, so that nodes that read the node are listed, too.

    Args:
        manifest: The product's manifest.
        dbt: The project.
        names: Names of the variables; none if the product has no partitions.
    """
    if not names:
        return {}
    nodes = {key: node for key, node in manifest.content["nodes"].items() if node["resource_type"] in _BUILT}
    file = next((path for path in sorted(settings_files(manifest, dbt)) if _is_read_in(path, names)), None)
    if file is not None:
        return dict.fromkeys(nodes, f"settings in {file.name} may depend on the variables of a partition")
    if any(_may_read(text, names) for text in texts_in(dbt.profile.outputs.get(dbt.profile.target or "", {}))):
        return dict.fromkeys(nodes, "the profile may depend on the variables of a partition")
    disabled = manifest.content["disabled"].items()
    # A node of this name in another package may take the place of the one that dbt reads.
    replaceable = {_name(key) for key, node in disabled if node is not None and reads_variables(node, names)}
    own = {
        key
        for key, node in nodes.items()
        if (node.get(VARYING_READS) and reads_variables(node, names)) or _name(key) in replaceable
    }
    found = dict.fromkeys(own, "its inputs or settings may depend on the variables of a partition")
    for key, node in nodes.items():
        parent = next((one for one in _parents(nodes, node) if one in own), None)
        if parent is not None and key not in own:
            found[key] = f"inputs or settings of {nodes[parent]['name']} may depend on the variables of a partition"
    return found


def reads_variables(node: Mapping[str, Any], names: AbstractSet[str]) -> bool:
    """Return whether the code of a node may read one of these variables, itself or through macros."""
    read = (node.get(READS) or {}).get("variables", ())
    return bool(names) and (read is None or not names.isdisjoint(read))


def _name(unique_id: str) -> str:
    return unique_id.split(".")[2]


def _is_read_in(path: Path, names: AbstractSet[str]) -> bool:
    """Return whether settings in a YAML file may read one of these variables. Tests in it do not count."""
    try:
        text = path.read_text(encoding="utf-8")
        if not _may_read(text, names):
            return False
        settings = _without_tests(read_yaml(path, ProjectError))
    except (OSError, UnicodeDecodeError, ProjectError):
        return True
    return any(_may_read(one, names) for one in texts_in(settings))


def _may_read(text: str, names: AbstractSet[str]) -> bool:
    read = values_read_in_yaml(text).variables
    return read is None or not names.isdisjoint(read)


def _without_tests(content: object) -> object:
    if isinstance(content, dict):
        settings = {key: value for key, value in content.items() if not (key in _TESTS and isinstance(value, list))}
        return {key: _without_tests(value) for key, value in settings.items()}
    return [_without_tests(value) for value in content] if isinstance(content, list) else content


def _parents(nodes: Mapping[str, Mapping[str, Any]], node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the nodes that a node names in its query, also through ephemeral models."""
    waiting, seen = list((node.get("depends_on") or {}).get("nodes") or ()), set[str]()
    while waiting:
        parent = waiting.pop()
        if parent in seen or parent not in nodes:
            continue
        seen.add(parent)
        yield parent
        if nodes[parent]["config"].get("materialized") == "ephemeral":
            waiting.extend((nodes[parent].get("depends_on") or {}).get("nodes") or ())
