"""Body of the Dagster steps that run dbt."""
