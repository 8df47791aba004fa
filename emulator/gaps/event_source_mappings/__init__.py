"""Gaps of Lambda's event source mappings: their settings, states and metrics, and how they read queues and streams."""
