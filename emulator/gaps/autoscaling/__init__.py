"""Gaps of Application Auto Scaling: scalable targets."""
