"""Printed values keep their types when Helm reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from command import invoke
from floe_orchestrator_dagster.deploy.documents import dumped, parsed
from helm_chart import lint, render
from unit.deploy.deployed import artifacts

if TYPE_CHECKING:
    from pathlib import Path

# Texts that YAML 1.1, YAML 1.2 or Helm's parser read as something else without quotes.
TEXTS = (
    *(
        "0812345",
        "12345e7",
        "08",
        "1e3",
        "1.5e3",
        "-.5",
        ".5E-3",
        "1_0e3",
        "8e_+2",
        "0x1F",
        "0X1F",
        "0o17",
        "0B1",
        "0777",
    ),
    *("y", "N", "yes", "off", "true", "~", "null", "", ".nan", "1:30", "2026-01-01", "2001-1-1", "1.4.0"),
    *("a: b", "a #b", 'it\'s "q"', "{{ .Values }}", "- a\n- b", "a\n", "a\u2028b", "😀", "%a", "100m"),
)


def test_helm_reads_every_text_as_it_is(helm: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    texts = {f"TEXT_{row}": text for row, text in enumerate(TEXTS)}
    variables = [part for name, text in texts.items() for part in ("--env", f"{name}={text}")]

    answer = invoke("helm", "--artifacts", artifacts(tmp_path), "--image", "shop:0812345", *variables)
    values.write_text(answer.stdout, encoding="utf-8")

    lint(helm, values)
    [container] = [
        container
        for manifest in render(helm, values)
        if manifest["kind"] == "Deployment" and "shop-orders" in manifest["metadata"]["name"]
        for container in manifest["spec"]["template"]["spec"]["containers"]
    ]
    assert container["image"] == "shop:0812345"
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    assert {name: environment[name] for name in texts} == texts


@pytest.mark.parametrize("text", [*TEXTS, "=", "<<", "a\x85b"])
def test_text_is_the_same_after_reading(text: str) -> None:
    document = {"a": text, f"k{text}": [text]}

    assert parsed(dumped([document])) == document


def test_numbers_booleans_and_documents_are_written_as_before() -> None:
    documents: list[dict[str, object]] = [{"b": 3030, "a": True, "c": 0.5, "d": None, "e": "1.4.0"}, {"f": []}]

    assert dumped(documents) == "b: 3030\na: true\nc: 0.5\nd: null\ne: 1.4.0\n---\nf: []\n"
