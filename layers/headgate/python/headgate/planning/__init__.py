"""Checks before a rollout begins."""
