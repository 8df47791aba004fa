"""Sets the paths where Lambda's Python looks for code, in its order, and starts AWS's runtime interface client."""

import os
import sys

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
TASK, RUNTIME = os.environ["LAMBDA_TASK_ROOT"], os.environ["LAMBDA_RUNTIME_DIR"]

# Python puts this file's folder first. The function and its layers go before the runtime's packages.
sys.path = [TASK, f"/opt/python/lib/{VERSION}/site-packages", "/opt/python", RUNTIME, *sys.path[1:]]

from awslambdaric.__main__ import main  # type: ignore[import-not-found]  # noqa: E402 - found on the path above

main([sys.argv[0], os.environ["_HANDLER"]])
