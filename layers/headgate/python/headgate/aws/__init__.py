"""Adapters to AWS services. Nothing here depends on rollouts."""
