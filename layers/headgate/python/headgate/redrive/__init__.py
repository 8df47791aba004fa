"""Redrives of dead-letter queues and failed stream batches."""
