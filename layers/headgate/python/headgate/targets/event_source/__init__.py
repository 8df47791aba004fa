"""Driver for consumers of queues and streams behind an event source mapping."""
