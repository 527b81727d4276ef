"""Lineage as OpenLineage events: what they say (pure), and how they are delivered."""
