"""Simulates what a strategy detects: the judge of Headgate on synthetic traffic."""
