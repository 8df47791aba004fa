"""Starting, finding and stopping the embedded AWS."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from emulator import server
from emulator.roles import make_role
from emulator.server import PYTHON, ROOT, EmbeddedAws, EmbeddedAwsError
from tests.local.patience import patient
from tests.local.roles import ROLE
from tests.local.servers import serving

pytestmark = pytest.mark.embedded


def test_a_start_that_fails_shows_the_end_of_the_log() -> None:
    with pytest.raises(EmbeddedAwsError, match="unknown gap: nonsense"):
        EmbeddedAws("--without", "nonsense").start()


def test_a_stopped_server_leaves_no_process_of_a_function_behind(tmp_path: Path) -> None:
    # GIVEN a function's process
    with EmbeddedAws() as embedded:
        code = "import os\ndef handler(event, context): return os.getpid()"
        lambda_ = embedded.client("lambda")
        archive = tmp_path / "code.zip"
        source = f"import zipfile; zipfile.ZipFile({str(archive)!r}, 'w').writestr('app.py', {code!r})"
        subprocess.run([PYTHON, "-c", source], check=True)
        settings = {"Runtime": "python3.11", "Handler": "app.handler", "Role": make_role(embedded, "any")}
        lambda_.create_function(FunctionName="pid", Code={"ZipFile": archive.read_bytes()}, **settings)
        pid = json.loads(lambda_.invoke(FunctionName="pid")["Payload"].read())
        os.kill(pid, 0)
    # WHEN the server has stopped THEN so has the function
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_tests_fail_at_the_end_if_a_role_was_denied_anything() -> None:
    code = "import boto3\ndef handler(event, context): boto3.client('sqs').get_queue_url(QueueName='other')"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("app.py", code)
    with ExitStack() as tests:
        # GIVEN a function that does what its role does not allow
        lambda_ = tests.enter_context(serving()).client("lambda")
        settings = {"Runtime": "python3.11", "Handler": "app.handler", "Role": ROLE}
        lambda_.create_function(FunctionName="fn", Code={"ZipFile": archive.getvalue()}, **settings)
        # WHEN it runs
        assert "FunctionError" in lambda_.invoke(FunctionName="fn")
        # THEN the end of the tests names the role and the permission
        with pytest.raises(AssertionError, match=r"samples was denied sqs:GetQueueUrl on arn:aws:sqs:.*:other"):
            tests.close()


def test_a_server_ends_with_the_process_that_started_it_however_that_ends() -> None:
    # GIVEN a process that is killed after it has started a server, and so stops nothing
    source = "import os; from emulator.server import EmbeddedAws; a = EmbeddedAws().start(); print(a.port, flush=True)"
    killed = subprocess.run(
        [sys.executable, "-c", f"{source}; os.kill(os.getpid(), 9)"], cwd=ROOT, capture_output=True, check=False
    )
    left = EmbeddedAws.at(int(killed.stdout))
    # THEN the server ends by itself
    deadline = time.monotonic() + patient(10)
    while left.answers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left.answers()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedAwsError, match=f"port {port} cannot be used: .*in use"):
            EmbeddedAws().start(port)


def test_a_detached_server_is_found_again_and_stopped_once(tmp_path: Path) -> None:
    state = tmp_path / "state" / "embedded.json"
    served = EmbeddedAws.serve_detached(state)
    try:
        again = EmbeddedAws.serve_detached(state)
        assert again.port == served.port
        assert again.client("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
    finally:
        assert EmbeddedAws.stop_detached(state)
    assert not served.answers()
    assert not EmbeddedAws.stop_detached(state)


def test_a_state_file_whose_process_is_gone_is_ignored(tmp_path: Path) -> None:
    # GIVEN a file which names a living process that is not ours
    state = tmp_path / "embedded.json"
    told = {"pid": os.getpid(), "port": 1, "log": "none", "started": "another time", "endpointUrl": ""}
    state.write_text(json.dumps(told))
    # THEN nothing is found, and nothing is ended
    assert EmbeddedAws.find_detached(state) is None
    assert not state.exists()


def test_a_seam_that_changed_is_named_with_its_gap_and_the_version() -> None:
    # The check itself runs beside MiniStack.
    source = "from emulator.gaps import seams; import json; seams.expect('mine', json, 'dumps', 'other')"
    done = subprocess.run([PYTHON, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "SeamMissing: gap 'mine': MiniStack 1." in done.stderr
    assert "json.dumps" in done.stderr


def test_it_listens_on_loopback_only(embedded_aws: EmbeddedAws) -> None:
    assert embedded_aws.endpoint_url.startswith("http://127.0.0.1:")
    assert embedded_aws.environment()["AWS_ENDPOINT_URL"] == embedded_aws.endpoint_url
    assert server.STATE_FILE.parent == ROOT / ".local"
