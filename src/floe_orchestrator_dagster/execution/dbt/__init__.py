"""dbt in a separate process: start, results of nodes, interrupt, end."""
