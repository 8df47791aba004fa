"""Benchmarks, each against a named alternative in the same run: `python -m benchmarks`. They are no tests."""
