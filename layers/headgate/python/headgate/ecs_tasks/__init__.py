"""ECS tasks that run to their end: requests, checks, outcomes and retries."""
