"""OpenLineage names of tables and files."""
