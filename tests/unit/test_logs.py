"""Logging of a load: one line at INFO, details at DEBUG."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from unit.samples import contract, manifest, model, node, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Give a product with a dbt project, ready to load."""
    write_project(tmp_path)
    write_json(tmp_path / "target" / "manifest.json", manifest(node("a"), node("b")))
    config = {"default_schedule": "@daily", "timezone": "Europe/Berlin"}
    return write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), model("b"), config=config))


def test_load_logs_one_line(
    artifacts: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        definitions_from_file(artifacts)

    [record] = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert record.getMessage().startswith(
        "shop-orders 1.2.0: 2 assets, 0 checks, 1 job, 1 schedule, 0 sensors, built in "
    )
    assert capfd.readouterr() == ("", "")


def test_line_has_structured_fields(artifacts: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        definitions_from_file(artifacts)

    [record] = caplog.records
    parts = record.__dict__["floe"]
    assert 0 < parts.pop("seconds") < 60
    assert parts == {
        "floe.namespace": "sales",
        "floe.product.name": "shop-orders",
        "floe.product.version": "1.2.0",
        "floe.mode": "dev",
        "assets": 2,
        "checks": 0,
        "jobs": 1,
        "schedules": 1,
        "sensors": 0,
    }


def test_debug_level_logs_the_details(artifacts: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "floe_orchestrator_dagster"):
        definitions_from_file(artifacts)

    project = artifacts.parent
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert messages == [
        f"{artifacts}: loading the product",
        f"{artifacts}: dbt project {project}, target dev",
        f"{artifacts}: 2 dbt assets in {project}/target/manifest.json",
        f"{artifacts}: contract version 0.16.0, configured: ['default_schedule', 'timezone']",
    ]


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 5), ("info", 1), ("WARNING", 0), ("loud", 0), ("", 0)])
def test_log_of_the_configured_level_is_written_to_standard_error(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], level: str, lines: int
) -> None:
    monkeypatch.setenv("FLOE_LOG_LEVEL", level)
    with _logging_as_before():
        definitions_from_file(artifacts)
        definitions_from_file(artifacts)

    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2 * lines


@contextmanager
def _logging_as_before() -> Iterator[None]:
    package = logging.getLogger("floe_orchestrator_dagster")
    level, propagate, handlers = package.level, package.propagate, [*package.handlers]
    package.handlers = []
    try:
        yield
    finally:
        package.handlers, package.propagate = handlers, propagate
        package.setLevel(level)
