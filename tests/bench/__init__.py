"""Benchmarks, each against a named alternative in the same run: `python -m tests.bench`. They are no tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "layers" / "headgate" / "python"))
