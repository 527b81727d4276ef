"""Repository snapshots of a code server: shorter than Dagster's, and read as the same objects."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.upstream.dagster_snapshot import find_problem
from processes import run_python

if TYPE_CHECKING:
    from pathlib import Path

_SNAPSHOTS, _SERDES = (
    import_module("dagster._core.remote_representation.external_data"),
    import_module("dagster_shared.serdes.serdes"),
)
_SERIALIZERS: Any = _SERDES._WHITELIST_MAP.object_serializers
# A process writes the snapshot before and after the patch, and a job with its identifier, which must not change.
_SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import dagster as dg
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._grpc import server
from floe_orchestrator_dagster.upstream.dagster_serialization import replace_serialization
from floe_orchestrator_dagster.upstream.dagster_snapshot import shorten_snapshot

reference = dg.CodeReferencesMetadataValue(code_references=[dg.LocalFileCodeReference(file_path="/a.sql")])
metadata = {"dagster/code_references": reference, "rows": 3, "empty": dg.MetadataValue.null()}
automatic = dg.AutomationCondition.eager()
specs = [
    dg.AssetSpec("bare"),
    dg.AssetSpec("full", deps=["bare"], metadata=metadata, owners=["a@example.com"], tags={"a": "b"}, kinds={"dbt"},
                 code_version="1", description="d", group_name="g", automation_condition=automatic),
]
checks = [dg.AssetCheckSpec("bare", asset="bare"),
          dg.AssetCheckSpec("full", asset="full", blocking=True, description="d", additional_deps=["bare"],
                            automation_condition=automatic)]

@dg.multi_asset(specs=specs, check_specs=checks, can_subset=True)
def tables():
    yield from ()

@dg.graph_asset
def two():
    @dg.op
    def first(): return 1
    @dg.op
    def second(first): return first
    return second(first())

@dg.observable_source_asset
def observed(): ...

@dg.op(out=dg.Out(int, metadata={"link": reference}))
def linked() -> int:
    return 1

@dg.job
def plain():
    linked()

daily = dg.AssetSpec("daily", partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))

def written(name):
    # Dagster caches the identifiers of a repository's jobs.
    every = dg.define_asset_job("all", "*")
    repository = dg.Definitions([tables, two, observed, daily], jobs=[every, plain]).get_repository_def()
    jobs = [repository.get_job(job) for job in ("all", "plain")]
    texts = (server.serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True)),
             *(job.get_job_snapshot_id() for job in jobs),
             *(dg.serialize_value(job.get_job_snapshot()) for job in jobs))
    for number, text in enumerate(texts):
        Path(sys.argv[1], f"{name}_{number}").write_text(text)

written("own")
if sys.argv[2] == "replaced":
    replace_serialization()
shorten_snapshot()
written("short")
shorten_snapshot()
written("twice")
"""


def _texts(directory: Path, how: str, patched: str = "on") -> dict[str, list[str]]:
    """Return the texts of the script, by the time at which it wrote them."""
    run_python("-c", _SCRIPT, str(directory), how, FLOE_UPSTREAM_PATCHES=patched)
    return {name: [(directory / f"{name}_{n}").read_text() for n in range(5)] for name in ("own", "short", "twice")}


@pytest.mark.parametrize("how", ["replaced", "dagsters"])
def test_snapshot_is_shorter_and_the_same_for_its_reader(tmp_path: Path, how: str) -> None:
    texts = _texts(tmp_path, how)
    own, short = texts["own"], texts["short"]

    assert dg.deserialize_value(short[0]) == dg.deserialize_value(own[0])
    assert len(short[0]) < 0.8 * len(own[0])
    assert short == texts["twice"]
    assert own[1:] == short[1:]
    nodes = {node["asset_key"]["path"][0]: node for node in json.loads(short[0])["external_asset_graph_data"]}
    assert not [name for node in nodes.values() for name, value in node.items() if value is None]
    assert "op_names" in nodes["two"]
    assert ("op_names" in nodes["bare"]) == (how == "dagsters")
    assert nodes["observed"]["is_observable"] is True


def test_patches_that_are_off_change_nothing(tmp_path: Path) -> None:
    texts = _texts(tmp_path, "replaced", "off")

    assert texts["own"] == texts["short"]


def test_run_worker_changes_nothing() -> None:
    script = (
        "import dagster\nfrom floe_orchestrator_dagster.upstream import dagster_snapshot, patches\n"
        "dagster_snapshot.shorten_snapshot()\nprint(patches.state(patches.SNAPSHOT).status)"
    )

    assert run_python("-c", script).stdout == "not tried yet\n"


def test_another_dagster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_problem() is None
    with monkeypatch.context() as patched:
        patched.delattr(_SERIALIZERS["AssetCheckNodeSnap"], "skip_when_none_fields")
        assert (find_problem() or "").startswith("the serializer of AssetCheckNodeSnap has no skip_when_none_fields")
    with monkeypatch.context() as patched:
        patched.setattr(_SERIALIZERS["AssetNodeSnap"], "field_serializers", {})
        assert find_problem() == "the metadata of AssetNodeSnap has another serializer"
    with monkeypatch.context() as patched:
        patched.setattr(_SERIALIZERS["AssetParentEdgeSnap"], "klass", dg.AssetKey)
        assert (find_problem() or "").startswith("AssetParentEdgeSnap cannot be created: ")
    monkeypatch.delattr(_SNAPSHOTS, "RepositorySnap")
    assert find_problem() == "dagster._core.remote_representation.external_data has no RepositorySnap"
