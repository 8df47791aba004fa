"""Gaps of CloudWatch Logs."""
