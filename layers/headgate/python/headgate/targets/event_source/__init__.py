"""Consumers of queues and streams, behind an event source mapping."""
