"""What a user asks for: requests, strategies, guards, hooks, signals and plans. No AWS, no clock."""
