"""Delivery of OpenLineage events: spool, senders, backends, replay."""
