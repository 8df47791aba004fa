"""ECS tasks and redrives: request them, follow them to their end, and stop them."""
