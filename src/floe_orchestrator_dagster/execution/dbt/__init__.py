"""dbt in a process of its own: started, its results read, interrupted, ended."""
