"""Triggers: events of AWS that request a rollout by a template of the owner."""
