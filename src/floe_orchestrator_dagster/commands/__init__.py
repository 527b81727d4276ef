"""The commands of ``floe-dagster``, one module per command, and their output."""
