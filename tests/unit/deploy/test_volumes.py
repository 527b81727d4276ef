"""Volumes for undelivered lineage, at the product's spool directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from command import invoke
from floe_orchestrator_dagster.deploy.helm import values_for
from floe_orchestrator_dagster.deploy.settings import DeploySettings
from floe_orchestrator_dagster.errors import DeployError
from floe_orchestrator_dagster.lineage.delivery.emitter import spool_directory
from unit.deploy.deployed import IMAGE, artifacts, production, products
from unit.samples import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from unit.samples import Json

_STATE = "/var/lib/floe/state"


def _mounted(settings: DeploySettings) -> dict[str, tuple[Json, str | None]]:
    """Return the mounts of the first product: volume and sub-path by mount path."""
    location = values_for("community", settings)["dagster-user-deployments"]["deployments"][0]
    volumes = {volume.pop("name"): volume for volume in location["volumes"]}
    return {mount["mountPath"]: (volumes[mount["name"]], mount.get("subPath")) for mount in location["volumeMounts"]}


@pytest.mark.parametrize("spool", [None, "/data/lineage", "/data/lineage/", "/var/lib/floe/state/events"])
def test_claim_is_mounted_at_the_products_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool: str | None
) -> None:
    config = {"lineage": {"spool_dir": spool}} if spool else {}
    deployed = products(tmp_path, 2, config)
    monkeypatch.setenv("FLOE_STATE_DIR", _STATE)

    mounted = _mounted(DeploySettings(deployed, lineage_claim="lineage"))

    kept = str(spool_directory("shop-0", deployed[0].config.lineage))
    assert mounted[kept] == ({"persistentVolumeClaim": {"claimName": "lineage"}}, "shop-0")


def test_spool_elsewhere_can_be_written_without_a_claim_too(tmp_path: Path) -> None:
    deployed = products(tmp_path, config={"lineage": {"spool_dir": "/data/lineage"}})

    assert _mounted(production(deployed))["/data/lineage/shop-0"] == ({"emptyDir": {}}, None)


@pytest.mark.parametrize("spool", [None, "/var/lib/floe/state/events"])
def test_spool_in_the_state_directory_stays_on_its_volume(tmp_path: Path, spool: str | None) -> None:
    config = {"lineage": {"spool_dir": spool}} if spool else {}

    mounted = _mounted(DeploySettings(products(tmp_path, config=config), state_claim="state"))

    assert mounted == {_STATE: ({"persistentVolumeClaim": {"claimName": "state"}}, None)}


@pytest.mark.parametrize(("spool", "is_lost"), [("/data/lineage", True), ("/var/lib/floe/state/events", False)])
def test_state_volume_has_only_spools_inside_it(tmp_path: Path, spool: str, is_lost: bool) -> None:  # noqa: FBT001  # a table's column
    content = json.loads(artifacts(tmp_path, config={"lineage": {"spool_dir": spool}}).read_text(encoding="utf-8"))
    content["observability"]["lineage"] = True
    sending = write_json(tmp_path / "sending.json", content)
    # A product without lineage has no events to lose.
    silent = artifacts(tmp_path, "silent", config={"lineage": {"spool_dir": "/data/lineage"}})

    said = invoke(
        *("helm", "--artifacts", sending, "--artifacts", silent, "--image", IMAGE),
        *("--production", "--postgres-host", "pg"),
        *("--state-claim", "state"),
    ).stderr

    assert ("undelivered lineage is deleted with the pod" in said) is is_lost


def test_spool_in_a_home_directory_is_refused(tmp_path: Path) -> None:
    deployed = products(tmp_path, config={"lineage": {"spool_dir": "~/lineage"}})

    with pytest.raises(DeployError) as raised:
        values_for("community", DeploySettings(deployed, lineage_claim="lineage"))

    assert str(raised.value) == (
        f"{tmp_path}/shop-0/compiled_artifacts.json: 1 problem\n"
        "  plugins.orchestrator.config.lineage.spool_dir: '~/lineage' is in a home directory that only the image "
        "knows\n"
        "    fix: Set an absolute directory in manifest.yaml, or remove it for /var/lib/floe/state/PRODUCT/lineage."
    )
