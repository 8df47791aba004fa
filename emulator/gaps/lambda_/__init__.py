"""Gaps of Lambda: functions, versions, aliases, their metrics, and its control plane."""
