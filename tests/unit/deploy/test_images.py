"""Parsing of references to images."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.deploy.names import ImageReference, parse_image
from floe_orchestrator_dagster.errors import DeployError

_DIGEST = f"sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("text", "expected", "is_fixed"),
    [
        ("shop:1", ImageReference("shop", "1", None), True),
        ("shop:latest", ImageReference("shop", "latest", None), False),
        (
            "r.example.com:5000/data/shop:1.4.0-rc.1",
            ImageReference("r.example.com:5000/data/shop", "1.4.0-rc.1", None),
            True,
        ),
        (f"shop@{_DIGEST}", ImageReference("shop", None, _DIGEST), True),
        (f"localhost/a/b__c:latest@{_DIGEST}", ImageReference("localhost/a/b__c", "latest", _DIGEST), True),
    ],
)
def test_reference_is_parsed(text: str, expected: ImageReference, *, is_fixed: bool) -> None:
    image = parse_image(text, "--image")

    assert image == expected
    assert image.is_fixed is is_fixed


@pytest.mark.parametrize("text", ["shop", "r.example.com:5000/shop", "a/b/c"])
def test_image_without_tag_and_digest_is_refused(text: str) -> None:
    with pytest.raises(DeployError, match="has neither a tag nor a digest"):
        parse_image(text, "--image")


@pytest.mark.parametrize(
    "text",
    ["", ":1", "Shop:1", "shop:", "shop: 1", "shop:1\n", "shop:-1", "a//b:1", "/a:1", "shop@sha256:12", "shop:1@md5:1",
     "https://r.example.com/shop:1", "shop:" + "1" * 129, "{{ image }}:1"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(DeployError) as raised:
        parse_image(text, "--image")

    assert str(raised.value) == (
        f"--image: 1 problem\n  {text!r} is not a reference to an image\n"
        "    fix: Write it as registry.example.com/retail-orders:1.4.0, or with @sha256: and its digest."
    )
