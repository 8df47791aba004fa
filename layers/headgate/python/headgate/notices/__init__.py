"""Notifications: what is said of an event by e-mail and in chat, and the metrics of a rollout that has ended."""
