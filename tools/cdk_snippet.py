"""Synthesizes the snippet of ``docs/cdk.md``: ``python -m tools.cdk_snippet``, by a Python that has ``aws-cdk-lib``.

That library needs Node.js and is no dependency of this project. So the template that it makes is kept as a fixture,
with a digest of the snippet: a test says so when the snippet has changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cdk.md"
FIXTURE = ROOT / "tests" / "fixtures" / "cdk.json"


def snippet() -> str:
    """Return the snippet of the page."""
    found = re.search(r'^```python title="app\.py"\n(.*?)^```$', PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if found is None:
        raise SystemExit(f'{PAGE} has no block ```python title="app.py"')
    return found[1]


def digest(text: str) -> str:
    """Return the digest by which the fixture knows the snippet."""
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Write the fixture."""
    text = snippet()
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(text, "utf-8")
        # The sample service is the code that the snippet names.
        environment = {**os.environ, "CDK_OUTDIR": folder}
        subprocess.run([sys.executable, str(app)], cwd=ROOT / "examples", env=environment, check=True)
        template = json.loads((Path(folder) / "Checkout.template.json").read_text("utf-8"))
    made = {"awsCdkLib": version("aws-cdk-lib"), "snippetSha256": digest(text), "template": template}
    FIXTURE.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    print(f"Wrote {FIXTURE.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
