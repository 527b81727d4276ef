"""Reuse of tables, views and test results whose inputs have not changed: records, sources, relations, decision."""
