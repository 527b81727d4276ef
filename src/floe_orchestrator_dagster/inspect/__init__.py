"""Validation and plan of a product, without running it."""
