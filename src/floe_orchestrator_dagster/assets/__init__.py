"""A product's dbt nodes and declared models as Dagster assets."""
