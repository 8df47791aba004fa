"""Gaps of Elastic Load Balancing: an Application Load Balancer that listens, and what it is made of."""
