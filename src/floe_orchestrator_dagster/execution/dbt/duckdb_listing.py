"""List of the tables and views in a DuckDB file, printed as JSON.

A process of its own opens the file, because DuckDB locks it and keeps memory. It runs this module with ``python -m``;
the argument is the file's path. The module imports little, because each decision starts such a process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from floe_orchestrator_dagster.execution.dbt.database_locks import lock_databases, open_lock_files

# Database, schema, name, kind, and hash of the columns of each table. The names are quoted, so that different columns
# have different texts. A table without a column represents a view whose columns DuckDB does not know, because a table
# is missing.
_QUERY = """
    select r.database_name, r.schema_name, r.name, r.kind, sha256(coalesce(c.columns, ''))[:16]
    from (
        select database_name, schema_name, table_name as name, 'table' as kind from duckdb_tables()
        union all
        select database_name, schema_name, view_name, 'view' from duckdb_views() where not internal
    ) r
    left join (
        select database_name, schema_name, table_name,
            string_agg('"' || replace(column_name, '"', '""') || '" ' || data_type, ', ' order by column_index)
                as columns
        from duckdb_columns()
        group by all
    ) c on c.database_name = r.database_name and c.schema_name = r.schema_name and c.table_name = r.name
    order by r.database_name, r.schema_name, r.name
"""


def main(path: str) -> None:
    """Print the tables and views of a file as JSON."""
    lock_databases(open_lock_files([path]), lambda _path: None)
    import duckdb

    with duckdb.connect(path, read_only=True) as connection:
        json.dump(connection.execute(_QUERY).fetchall(), sys.stdout)


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
