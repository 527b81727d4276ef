"""OpenLineage events: their content (pure functions) and their delivery."""
