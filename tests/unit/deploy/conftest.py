"""Helm, unpacked once, and products to deploy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helm_chart import unpack_helm

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of Helm's binary."""
    return unpack_helm(tmp_path_factory.mktemp("helm"))
