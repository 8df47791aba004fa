"""Drivers: each knows how to move one kind of target, and nothing of why.

A driver answers ``{action, target, plan, epoch, weight?, state}`` with ``{state}``. It sets weights, never increments
them; before an effect it checks that the rollout still owns the target's lock.
"""
