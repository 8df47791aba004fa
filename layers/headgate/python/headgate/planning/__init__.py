"""What must hold before a rollout begins."""
