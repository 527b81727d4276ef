"""Files that dbt does not write before its first node; an unknown dbt writes all of them."""

from __future__ import annotations

import json

from processes import run_python

# Applies each change of dbt and each option in turn, and prints the state of dbt's functions.
_LEFT_OUT = """
import json, sys
from dbt import compilation
from dbt.parser import manifest
from dbt.task import runnable
from floe_orchestrator_dagster.upstream import patches
from floe_orchestrator_dagster.upstream.dbt_files import leave_out_files

known = [(module, name, getattr(module, name)) for module, name in (
    (manifest, "write_manifest"),
    (runnable, "write_manifest"),
    (compilation, "Linker"),
    (compilation.Linker, "write_graph"),
    (compilation.Linker, "get_graph_summary"),
)]
for change, needed in json.loads(sys.argv[1]):
    exec(change)
    patches._states.clear()
    changed = [getattr(module, name, None) for module, name, _ in known]
    why = leave_out_files(needs_manifest=needed)
    left_out = [name for (module, name, _), was in zip(known, changed) if getattr(module, name, None) is not was]
    print(json.dumps([why, left_out]))
    for module, name, own in known:
        setattr(module, name, own)
"""


# A group was renamed since the project was parsed.
_PARSED_BEFORE = """
import json
from dbt.contracts.graph.manifest import Manifest
from dbt.parser import manifest
from floe_orchestrator_dagster.upstream.dbt_files import leave_out_files

leave_out_files()
parsed = Manifest()
parsed.group_map = {"finance": []}
manifest.write_manifest(parsed, "nowhere")
print(json.dumps([parsed.group_map, parsed.child_map]))
"""


def left_out(*tries: tuple[str, bool]) -> list[list[object]]:
    """For each try: why nothing was left out, and the functions of dbt that write nothing any more."""
    printed = run_python("-c", _LEFT_OUT, json.dumps(tries)).stdout
    return [json.loads(line) for line in printed.splitlines()]


def test_the_manifest_is_written_at_the_end_only_unless_it_is_needed_and_the_graph_not_at_all() -> None:
    graph = ["write_graph", "get_graph_summary"]

    assert left_out(("", False), ("", True)) == [[None, ["write_manifest", *graph]], [None, graph]]


def test_a_dbt_that_writes_otherwise_is_left_as_it_is() -> None:
    manifest_elsewhere = (
        "runnable.write_manifest = print",
        "del runnable.write_manifest",
        "manifest.write_manifest = runnable.write_manifest = lambda manifest: None",
    )
    graph_elsewhere = (
        "del compilation.Linker.write_graph",
        "compilation.Linker.get_graph_summary = lambda self: {}",
        "del compilation.Linker",
    )

    found = left_out(*((change, False) for change in (*manifest_elsewhere, *graph_elsewhere)))

    other_manifest = "dbt writes manifest.json with another function"
    other_graph = "dbt writes the graph with other functions"
    assert found == [[other_manifest, []]] * 3 + [[other_graph, []]] * 3


def test_a_manifest_that_is_not_written_is_as_complete_as_one_that_is() -> None:
    assert json.loads(run_python("-c", _PARSED_BEFORE).stdout) == [{}, {}]
