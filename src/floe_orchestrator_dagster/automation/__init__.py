"""Jobs, schedules, sensors, automation conditions and executor of a product, from its configuration."""
