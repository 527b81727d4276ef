"""Entry points, resource presets and Helm values for platform teams. This package never imports dagster."""
