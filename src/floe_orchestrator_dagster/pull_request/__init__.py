"""Build of a pull request: its changes and everything downstream, in separate tables.

``changes.py`` decides what to build. ``place.py`` has the places to build it in: a schema (``schemas.py``) or a DuckDB
file (``duckdb_file.py``). ``build.py`` creates the place, runs dbt and removes the place. ``report.py`` has the result.
"""
