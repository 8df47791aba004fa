"""A rollout's record and its rules: locks, steps, signals, executions and recovery."""
