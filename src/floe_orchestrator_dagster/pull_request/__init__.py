"""Build of a pull request: its changes and everything downstream, in separate tables.

``changes.py`` has the nodes to build. ``destination.py`` has what the two destinations have in common: schemas
(``schemas.py``) and a DuckDB file (``duckdb_file.py``). ``build.py`` creates the destination, runs dbt and removes the
destination. ``production.py`` has the tables to start from, ``results.py`` and ``report.py`` the result.
"""
