"""Running dbt for Dagster's steps."""
