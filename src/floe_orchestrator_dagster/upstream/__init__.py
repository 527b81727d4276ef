"""Uses of names of dagster, dagster-dbt and dbt that are not public."""
