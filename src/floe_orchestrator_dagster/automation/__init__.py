"""Jobs and schedules of a product."""
