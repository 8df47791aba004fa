"""Driver for ECS services behind an Application Load Balancer."""
