"""The trimmed copy of a manifest: used for exactly its manifest, and only if no other user could have written it."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.product.manifest import read_product_manifest
from floe_orchestrator_dagster.product.trimmed_file import TRIMMED_FILE, read_trimmed, write_trimmed
from floe_orchestrator_dagster.product.trimming import trim
from unit.samples import Json, manifest, node, source, write_json

if TYPE_CHECKING:
    from pathlib import Path


def _write(directory: Path, *names: str) -> Path:
    nodes = [node(name, description=f"Table {name}", columns={"id": {"name": "id"}}) for name in names]
    return write_json(directory / "manifest.json", manifest(*nodes, sources=(source("erp", "orders"),)))


def _names(content: Json | None) -> set[str]:
    return {entry["name"] for entry in content["nodes"].values()} if content else set()


def test_copy_equals_the_trimmed_manifest(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders", "customers")
    first = read_product_manifest(path).content

    assert read_trimmed(path) == first


def test_nodes_share_equal_values_in_memory(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders", "customers")
    read_product_manifest(path)

    content = read_trimmed(path)

    assert content is not None
    orders, customers = content["nodes"].values()
    assert orders["config"] is customers["config"]
    assert orders["description"] != customers["description"]


def test_names_and_unique_ids_are_in_memory_once(tmp_path: Path) -> None:
    stg = node("stg")
    mart = node("mart", depends_on={"nodes": [stg["unique_id"]], "macros": []})
    path = write_json(tmp_path / "manifest.json", manifest(stg, mart))
    read_product_manifest(path)

    content = read_trimmed(path)

    assert content is not None
    first, second = content["nodes"].values()
    assert content["parent_map"][second["unique_id"]][0] is first["unique_id"]
    assert first["fqn"][-1] is first["name"]


def test_columns_are_those_of_the_manifest(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders")
    read_product_manifest(path)

    content = read_trimmed(path)

    assert content is not None
    columns = content["nodes"]["model.shop.orders"]["columns"]
    assert (len(columns), list(columns), columns["id"], columns.get("amount")) == (1, ["id"], {"name": "id"}, None)
    assert columns == {"id": {"name": "id"}}


def test_columns_do_not_have_the_tags_and_meta_that_dbt_v2_copies_from_the_node() -> None:
    given: Json = {"tags": ["daily"], "meta": {"team": "sales"}}
    columns: Json = {
        "copied": {"name": "copied", **given, "config": {}},
        "own": {"name": "own", **given, "config": given},
        "other": {"name": "other", "tags": ["daily", "key"], "meta": {}, "config": {}},
        "of_dbt_1_9": {"name": "of_dbt_1_9", **given},
    }

    kept = trim(manifest(node("orders", **given, columns=columns)))["nodes"]["model.shop.orders"]

    assert kept["columns"] == {
        "copied": {"name": "copied"},
        "own": {"name": "own", **given},
        "other": {"name": "other", "tags": ["daily", "key"]},
        "of_dbt_1_9": {"name": "of_dbt_1_9", **given},
    }
    assert {field: kept[field] for field in given} == given


def test_copy_of_another_manifest_is_not_used(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders")
    read_product_manifest(path)
    _write(tmp_path, "shipments")

    assert read_trimmed(path) is None
    assert _names(read_product_manifest(path).content) == {"shipments"}
    assert _names(read_trimmed(path)) == {"shipments"}


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "removed", "of an older version"])
def test_damaged_copy_is_written_again(tmp_path: Path, damage: str) -> None:
    path = _write(tmp_path, "orders")
    copy = tmp_path / TRIMMED_FILE
    read_product_manifest(path)
    written = copy.read_bytes()
    if damage == "removed":
        copy.unlink()
    else:
        broken = {
            "cut": written[:-10],
            "emptied": b"",
            "changed": written.replace(b"Table orders", b"Table 0rders"),
            "of an older version": b"0" * 64 + written[64:],
        }
        copy.write_bytes(broken[damage])
    os.utime(path, ns=(1, time.time_ns()))  # within a process each version of a manifest is read once

    assert read_trimmed(path) is None
    assert _names(read_product_manifest(path).content) == {"orders"}
    assert copy.read_bytes() == written


def test_concurrent_writers_leave_one_whole_copy_and_nothing_else(tmp_path: Path) -> None:
    path = _write(tmp_path, *(f"model_{number}" for number in range(50)))
    text = path.read_bytes()
    content = read_product_manifest(path).content

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write_trimmed, path, text, content) for _ in range(40)]
        readers = [pool.submit(read_trimmed, path) for _ in range(40)]

    assert [writer.result() for writer in writers] == [None] * 40
    assert all(reader.result() == content for reader in readers)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["manifest.json", TRIMMED_FILE])


def test_files_of_a_killed_writer_are_removed_later(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders")
    old, new = tmp_path / ".floe_manifest-old", tmp_path / ".floe_manifest-new"
    for file in (old, new):
        file.write_bytes(b"half a")
    os.utime(old, (0, 0))

    read_product_manifest(path)

    assert (old.exists(), new.exists()) == (False, True)


def test_copy_that_others_could_have_written_is_not_used(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders")
    read_product_manifest(path)
    copy = tmp_path / TRIMMED_FILE
    for file in (path, copy):
        file.chmod(0o666)

    assert read_trimmed(path) is None

    os.utime(path, ns=(1, time.time_ns()))  # within a process each version of a manifest is read once
    assert _names(read_product_manifest(path).content) == {"orders"}
    assert copy.stat().st_mode & 0o777 == 0o644
    assert _names(read_trimmed(path)) == {"orders"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("user", "group", "mode"), [(12345, 0, 0o644), (0, 12345, 0o664)])
def test_copy_of_another_user_or_group_is_not_used(tmp_path: Path, user: int, group: int, mode: int) -> None:
    path = _write(tmp_path, "orders")
    read_product_manifest(path)
    os.chown(tmp_path / TRIMMED_FILE, user, group)
    (tmp_path / TRIMMED_FILE).chmod(mode)

    assert read_trimmed(path) is None


def test_copy_that_the_processs_group_can_write_is_used(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders")
    read_product_manifest(path)
    (tmp_path / TRIMMED_FILE).chmod(0o664)

    assert _names(read_trimmed(path)) == {"orders"}


def test_copy_has_the_read_permissions_of_the_manifest(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders")
    path.chmod(0o640)

    read_product_manifest(path)

    assert (tmp_path / TRIMMED_FILE).stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_cannot_be_written_is_not_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path, "orders")
    tmp_path.chmod(0o500)

    assert _names(read_product_manifest(path).content) == {"orders"}
    assert not (tmp_path / TRIMMED_FILE).exists()


def test_tests_keep_their_arguments_but_not_the_template_of_their_model() -> None:
    arguments = {"column_name": "id", "model": "{{ get_where_subquery(ref('orders')) }}", "values": [1]}
    test = node("accepted_orders", "test", test_metadata={"name": "accepted_values", "kwargs": arguments})

    kept = trim(manifest(test))["nodes"]["test.shop.accepted_orders"]["test_metadata"]

    assert kept == {"name": "accepted_values", "kwargs": {"column_name": "id", "values": [1]}}


def test_tests_keep_no_relation_and_no_code_version() -> None:
    test = node(
        "unique_orders", "test", schema="audit", alias="a", columns={"id": {}}, attached_node="model.shop.orders"
    )

    kept = trim(manifest(test))["nodes"]["test.shop.unique_orders"]

    assert kept["attached_node"] == "model.shop.orders"
    assert not {"schema", "alias", "columns", "code_version"} & kept.keys()
