"""Settings of floe.yaml that the contract lacks: schedule, owner, description and labels."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.errors import SpecError
from floe_orchestrator_dagster.product.spec import ProductSpec, read_spec

if TYPE_CHECKING:
    from pathlib import Path

_MINIMAL = """\
apiVersion: floe.dev/v1
kind: FloeSpec
metadata: {name: shop-orders, version: 1.0.0}
transforms: [{name: stg_orders}]
"""
_FULL = """\
apiVersion: floe.dev/v1
kind: FloeSpec
metadata:
  name: shop-orders
  version: 1.0.0
  owner: orders@example.com
  description: Orders of the shop
  labels: {team: orders}
transforms: [{name: stg_orders}]
schedule: {cron: "0 6 * * *", timezone: Europe/Berlin, enabled: false}
"""


def _write(directory: Path, content: str) -> Path:
    path = directory / "floe.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def test_all_additional_settings_are_read(tmp_path: Path) -> None:
    _write(tmp_path, _FULL)

    spec = read_spec(tmp_path, "shop-orders")

    assert spec.owner == "orders@example.com"
    assert spec.description == "Orders of the shop"
    assert dict(spec.labels) == {"team": "orders"}
    assert spec.schedule is not None
    assert (spec.schedule.cron, spec.schedule.timezone) == ("0 6 * * *", "Europe/Berlin")
    assert spec.schedule.enabled is False


def test_undeclared_settings_are_empty(tmp_path: Path) -> None:
    _write(tmp_path, _MINIMAL)

    assert read_spec(tmp_path, "shop-orders") == ProductSpec(owner=None, description=None, labels={}, schedule=None)


def test_labels_cannot_be_changed(tmp_path: Path) -> None:
    _write(tmp_path, _FULL)

    labels = read_spec(tmp_path, "shop-orders").labels

    with pytest.raises(TypeError, match="does not support item assignment"):
        labels["team"] = "other"  # type: ignore[index]


def test_no_directory_means_an_empty_spec() -> None:
    assert read_spec(None, "shop-orders") == ProductSpec()


def test_directory_without_floe_yaml_means_an_empty_spec(tmp_path: Path) -> None:
    assert read_spec(tmp_path, "shop-orders") == ProductSpec()


def test_floe_yaml_of_another_product_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _write(tmp_path, _FULL)

    spec = read_spec(tmp_path, "shop-returns")

    assert spec == ProductSpec()
    assert caplog.record_tuples == [
        (
            "floe_orchestrator_dagster.product.spec",
            logging.WARNING,
            f"{path} belongs to product 'shop-orders', not 'shop-returns', and is not used",
        )
    ]


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = _write(tmp_path, "metadata:\n  name: [shop-orders\n")

    with pytest.raises(SpecError) as raised:
        read_spec(tmp_path, "shop-orders")

    message = str(raised.value)
    assert message.startswith(f"{path}: 1 problem\n  is not YAML: while parsing a flow sequence\n")
    assert "line 2, column 9" in message
    assert message.endswith("\n    fix: Correct the YAML.")


@pytest.mark.parametrize("content", ["", "- a\n", "text\n"], ids=["empty", "list", "text"])
def test_yaml_that_is_not_a_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = _write(tmp_path, content)

    with pytest.raises(SpecError) as raised:
        read_spec(tmp_path, "shop-orders")

    assert str(raised.value) == (
        f"{path}: 1 problem\n  must be a mapping\n    fix: Correct it; `floe platform compile` reports the same."
    )


def test_every_invalid_field_is_reported_with_its_place(tmp_path: Path) -> None:
    content = _MINIMAL.replace("version: 1.0.0", "version: 1.0").replace("FloeSpec", "Spec") + "colour: red\n"
    path = _write(tmp_path, content)

    with pytest.raises(SpecError) as raised:
        read_spec(tmp_path, "shop-orders")

    assert str(raised.value) == (
        f"{path}: 3 problems\n"
        "  kind: must be 'FloeSpec'\n"
        "  metadata.version: must be a string\n"
        "  colour: is unknown here\n"
        "    fix: Correct it; `floe platform compile` reports the same."
    )


def test_models_have_any_name_that_dbt_accepts(tmp_path: Path) -> None:
    models = "[{name: stg_orders}, {name: day-sales, dependsOn: [stg_orders]}, {name: größe}]"
    _write(tmp_path, _FULL.replace("[{name: stg_orders}]", models))

    assert read_spec(tmp_path, "shop-orders").owner == "orders@example.com"


def test_names_of_models_do_not_hide_other_problems(tmp_path: Path) -> None:
    path = _write(tmp_path, _MINIMAL.replace("stg_orders", "day-sales, tier: lead") + "colour: red\n")

    with pytest.raises(SpecError) as raised:
        read_spec(tmp_path, "shop-orders")

    assert str(raised.value) == (
        f"{path}: 2 problems\n"
        "  transforms.0.tier: must be 'bronze', 'silver' or 'gold'\n"
        "  colour: is unknown here\n"
        "    fix: Correct it; `floe platform compile` reports the same."
    )


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "floe.yaml"
    path.write_bytes(_MINIMAL.encode() + b"# \xe9t\xe9\n")

    with pytest.raises(SpecError) as raised:
        read_spec(tmp_path, "shop-orders")

    message = str(raised.value)
    assert message.startswith(f"{path}: 1 problem\n  cannot be read ('utf-8' codec can't decode byte 0xe9")
    assert message.endswith("\n    fix: Let the user that runs Dagster read it, as UTF-8.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, _MINIMAL).chmod(0o000)

    with pytest.raises(SpecError, match=r"cannot be read \(\[Errno 13\] Permission denied"):
        read_spec(tmp_path, "shop-orders")
