"""Counts, evidence and verdicts."""
