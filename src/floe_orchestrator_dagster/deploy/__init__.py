"""What a platform team deploys: entry point code, resource presets, Helm values. Nothing here imports dagster."""
