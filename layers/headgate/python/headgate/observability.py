"""One logger for every function: JSON lines with the rollout's id wherever there is one."""

from __future__ import annotations

from aws_lambda_powertools import Logger

logger = Logger(service="headgate", utc=True)
