"""OpenLineage events of dbt nodes, product runs and Python assets."""
