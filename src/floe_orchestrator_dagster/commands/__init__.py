"""The commands of ``floe-dagster``, each in a module of its own, and their output."""
