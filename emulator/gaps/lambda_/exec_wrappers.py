"""A wrapper script starts the runtime of a function whose environment has AWS_LAMBDA_EXEC_WRAPPER.

AWS calls the script with the command that starts the runtime, and the runtime gets its invocations from the runtime API
at AWS_LAMBDA_RUNTIME_API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html. MiniStack ignores the
variable, and its worker for Python reads invocations from its standard input, without a runtime API. Here such a
function's worker becomes `exec_wrapper_environment.py`, which has one. Python runtimes only.

Seam: the worker script (`lambda_runtime._PYTHON_WORKER_SCRIPT`).
"""

from pathlib import Path

from ministack.core import lambda_runtime

from emulator.gaps import seams
from emulator.gaps.lambda_.function_errors import MARK

GAP = "exec_wrappers"
ENVIRONMENT = Path(__file__).with_name("exec_wrapper_environment.py")
_LAST_LINE = "\nrun()\n"


def install() -> None:
    """Fill the gap."""
    script = seams.expect_text(GAP, lambda_runtime, "_PYTHON_WORKER_SCRIPT", _LAST_LINE)
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(
        _LAST_LINE,
        '\nif os.environ.get("AWS_LAMBDA_EXEC_WRAPPER"):\n'
        f"    os.execv(sys.executable, [sys.executable, {str(ENVIRONMENT)!r}, {MARK!r}])\n"
        "run()\n",
    )
