"""Requests, strategies, guards, hooks, signals and plans. No AWS, no clock."""
