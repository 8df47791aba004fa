"""Headgate: progressive delivery for AWS.

A functional core (request, strategy, plan, judge, verdict: no boto3, no clock, no environment) and an imperative
shell (store, drivers, signals, telemetry). The functions import the core and one shell module.
"""
