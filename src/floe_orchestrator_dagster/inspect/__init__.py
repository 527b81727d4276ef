"""Reports on a product that is not run: validation, plan."""
