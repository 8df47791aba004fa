"""Drivers, which move traffic, for each kind of target."""
