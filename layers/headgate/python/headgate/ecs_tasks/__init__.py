"""ECS tasks that run to completion: requests, checks, outcomes and retries."""
