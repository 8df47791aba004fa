"""The judge next to the rules that other tools roll back by, on the same made-up traffic."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "cli"))
