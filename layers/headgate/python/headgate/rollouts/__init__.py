"""Rollout records, locks, steps, signals, executions and recovery."""
