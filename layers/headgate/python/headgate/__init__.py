"""Headgate: progressive delivery for AWS.

A functional core (request, strategy, plan, judge, verdict: no boto3, no clock, no environment) and an imperative
shell (table, locks, steps, ledgers, inbox, drivers and what asks CloudWatch). A function builds its clients, and hands
them to the shell. A service that reports to Headgate imports ``headgate.telemetry``, and nothing else.
"""
