"""How Dagster is deployed on Kubernetes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from floe_orchestrator_dagster.config.section import Section, Text
from floe_orchestrator_dagster.config.steps import PodResources  # noqa: TC001  # pydantic reads the annotations


class DeployConfig(Section):
    """Values for Dagster's Helm chart, as ``floe-dagster helm`` prints them."""

    size: Literal["small", "medium", "large"] = "medium"
    """Preset of CPU and memory of webserver and code server; the daemon's is one size smaller."""
    image: Text | None = Field(default=None, examples=["registry.example.com/retail-orders:1.4.0"])
    """The product's image, with a tag or a digest."""
    webserver: PodResources | None = None
    """What the webserver's pods ask for."""
    daemon: PodResources | None = None
    """What the daemon's pod asks for."""
    user_code: PodResources | None = None
    """What the product's code server asks for; its run pods too, where ``run_resources`` says nothing."""
