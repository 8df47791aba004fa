"""Gaps of ECS."""
