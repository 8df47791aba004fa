"""Builds the image for functions unless it exists: `python -m tools.lambda_image [--python VERSION]`."""

from __future__ import annotations

import argparse
import sys

from tools.docker_engine import DockerEngine, DockerEngineError
from tools.lambda_image.build import SUITES, LambdaImageError, default_version, ensure


def main() -> int:
    """Parse the command line and build the image if needed."""
    parser = argparse.ArgumentParser(prog="python -m tools.lambda_image", description=__doc__)
    parser.add_argument("--python", choices=SUITES, default=default_version(), help="default: %(default)s")
    version = parser.parse_args().python
    try:
        with DockerEngine() as engine:
            print(f"{ensure(engine, version)} exists.")
    except (DockerEngineError, LambdaImageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
