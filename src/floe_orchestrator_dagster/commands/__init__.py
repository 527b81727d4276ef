"""Commands of ``floe-dagster`` that have a module of their own, and how all of them answer."""
