"""Columns of seeds, where dbt reports none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.step.seed_columns import with_seed_columns
from unit import samples

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product.project import ProjectDirectory

REGIONS = NodeResult("seed.shop.regions", "regions", "seed", "seed", "success")


@pytest.fixture
def project(tmp_path: Path) -> ProjectDirectory:
    return samples.project(tmp_path)


def written(project: ProjectDirectory, content: bytes, package: str = "") -> dict[str, Any]:
    """Write a seed's file, in the project or in a package; returns its node."""
    directory = project.packages_path / package if package else project.path
    (directory / "seeds").mkdir(parents=True)
    (directory / "seeds" / "regions.csv").write_bytes(content)
    return {"package_name": package or "shop", "original_file_path": "seeds/regions.csv", "config": {}}


def test_columns_are_those_of_the_first_line_with_the_configured_types(project: ProjectDirectory) -> None:
    node = written(project, b'\xef\xbb\xbfId;"Name; long"\r\n1;North\r\n')
    node["config"] = {"delimiter": ";", "column_types": {"Id": "bigint"}}

    assert with_seed_columns(REGIONS, node, project).columns == {"Id": "bigint", "Name; long": ""}


def test_seeds_of_packages_have_columns(project: ProjectDirectory) -> None:
    node = written(project, b"id,name\n", package="geography")

    assert with_seed_columns(REGIONS, node, project).columns == {"id": "", "name": ""}


@pytest.mark.parametrize(
    ("content", "delimiter"), [(b"", ","), (b"\xff\xfe\x00", ","), (b"a||b", "||")], ids=["empty", "binary", "long"]
)
def test_a_file_that_cannot_be_read_has_no_columns(project: ProjectDirectory, content: bytes, delimiter: str) -> None:
    node = written(project, content) | {"config": {"delimiter": delimiter}}

    assert with_seed_columns(REGIONS, node, project) is REGIONS
    assert with_seed_columns(REGIONS, {}, project) is REGIONS


def test_columns_of_dbt_and_of_other_nodes_are_kept(project: ProjectDirectory) -> None:
    node = written(project, b"id,name\n")

    for kept in (
        replace(REGIONS, columns={"ID": "NUMBER"}),
        replace(REGIONS, status="error"),
        replace(REGIONS, resource_type="model", materialized="table"),
    ):
        assert with_seed_columns(kept, node, project) is kept
