"""``python -m floe_orchestrator_dagster``."""

from floe_orchestrator_dagster.cli import main

if __name__ == "__main__":
    main(prog_name="floe-dagster")
