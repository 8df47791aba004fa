"""Where Lambda's Python looks for code, in Lambda's order; then AWS's runtime interface client takes over."""

import os
import sys

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
TASK, RUNTIME = os.environ["LAMBDA_TASK_ROOT"], os.environ["LAMBDA_RUNTIME_DIR"]

# Python has put this file's own folder first; the function and its layers go before what the runtime brings.
sys.path = [TASK, f"/opt/python/lib/{VERSION}/site-packages", "/opt/python", RUNTIME, *sys.path[1:]]

from awslambdaric.__main__ import main  # type: ignore[import-not-found]  # noqa: E402 - found on the path above

main([sys.argv[0], os.environ["_HANDLER"]])
