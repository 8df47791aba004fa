"""Adapters to AWS services. Nothing here knows of rollouts."""
