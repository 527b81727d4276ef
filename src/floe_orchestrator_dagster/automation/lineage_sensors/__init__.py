"""Sensors that complete the lineage of ended runs and replay undelivered events."""
