"""Results of dbt's nodes as Dagster stores and shows them."""
