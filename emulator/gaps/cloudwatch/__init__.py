"""Gaps of CloudWatch: metrics and alarms."""
