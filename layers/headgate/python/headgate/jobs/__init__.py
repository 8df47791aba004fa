"""Jobs that events request, ECS tasks and redrives: requests, records and starts."""
