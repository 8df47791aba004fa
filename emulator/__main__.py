"""Serve the embedded AWS: `.venv-local/bin/python -m emulator --port N [--log FILE]`.

In memory, on loopback, until SIGTERM or SIGINT, which also end the processes of functions and of ECS services' tasks.
Without Docker, unless `--docker` has the address of an engine: then ECS tasks run as containers, which end with it too.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

# Settings that MiniStack reads at import. Set here and not inherited: a developer's shell may have settings for another
# MiniStack, and the embedded AWS must be the same everywhere.
SETTINGS = {
    "AUTH": "true",
    "BIND_HOST": "127.0.0.1",
    "DOCKER_HOST": "unix:///nonexistent/docker.sock",
    "IOT_MTLS_ENABLED": "0",
    "LAMBDA_EXECUTOR": "local",
    "LAMBDA_STRICT": "0",
    "MINISTACK_ACCOUNT_ID": "000000000000",
    "MINISTACK_HOST": "localhost",
    "MINISTACK_REGION": "us-east-1",
    "PERSIST_STATE": "0",
    "S3_PERSIST": "0",
    "SFN_MOCK_CONFIG": "",
    "SFN_WAIT_SCALE": "1",
    "SFTP_ENABLED": "0",
    "USE_SSL": "0",
}


PARENT_SECONDS = 1.0
"""How often to look whether the parent still runs."""


def main() -> None:
    """Parse the command line, fill the gaps, serve."""
    parser = argparse.ArgumentParser(prog="python -m emulator", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--socket", type=int, metavar="FD", help="listen on this socket, which is bound to the port")
    parser.add_argument("--parent", type=int, metavar="PID", help="end when this process, which started us, has ended")
    parser.add_argument("--log", type=Path, help="append the log to this file (default: the terminal)")
    parser.add_argument(
        "--without", action="append", default=[], metavar="GAP", help="leave this gap open (repeatable)"
    )
    parser.add_argument(
        "--permissions", type=Path, metavar="FILE", help="write the permissions that roles use and lack"
    )
    parser.add_argument("--bare", action="store_true", help="leave all gaps open: plain MiniStack")
    parser.add_argument(
        "--control-plane-rate", type=float, metavar="N", help="limit Lambda's control plane to N requests per second"
    )
    parser.add_argument(
        "--docker",
        metavar="HOST",
        default="",
        help="run ECS tasks on the Docker engine at this address (unix:// or tcp://)",
    )
    parser.add_argument("--start-execution-rate", type=float, metavar="N", help="limit StartExecution to N per second")
    options = parser.parse_args()
    if options.log:
        _log_to(options.log)
    _settle_environment(options.port, options.docker)

    # Imported only now: MiniStack reads its settings and starts logging at import.
    from emulator import gaps
    from emulator.gaps.iam import request_authorization
    from emulator.gaps.lambda_ import control_plane_rate
    from emulator.gaps.stepfunctions import start_execution_rate

    if not options.bare:
        gaps.install_all(without=frozenset(options.without))
    if options.permissions:
        request_authorization.record_to(options.permissions)
    if options.control_plane_rate:
        control_plane_rate.install(options.control_plane_rate)
    if options.start_execution_rate:
        start_execution_rate.install(options.start_execution_rate)
    try:
        binding = f"127.0.0.1:{options.port}" if options.socket is None else f"fd://{options.socket}"
        asyncio.run(_serve(binding, options.parent, with_docker=bool(options.docker)))
    finally:
        _end_functions()


def _end_functions() -> None:
    # MiniStack's reset also deletes the unpacked files of each process one by one, which takes seconds. The parent
    # process deletes the whole folder.
    from ministack.core import lambda_runtime

    for kind in vars(lambda_runtime).values():
        if isinstance(kind, type) and hasattr(kind, "_discard_tmpdir"):
            kind._discard_tmpdir = lambda _self: None
    lambda_runtime.reset()


def _end_services() -> None:
    # First the scheduler: a service starts another task for each that ends.
    for name, end in (("scheduler", "stop"), ("process_engine", "end_all")):
        if module := sys.modules.get(f"emulator.gaps.ecs.{name}"):
            getattr(module, end)()


def _end_containers() -> None:
    # Killed, not stopped, because the parent process waits only a few seconds. MiniStack stops the rest one by one.
    import docker  # type: ignore[import-untyped]
    from ministack.core import container_reaper

    ours = f"{container_reaper.INSTANCE_LABEL}={container_reaper.instance_id()}"
    with contextlib.suppress(docker.errors.DockerException, OSError), contextlib.closing(docker.from_env()) as client:
        for container in client.containers.list(all=True, filters={"label": ours}, ignore_removed=True):
            with contextlib.suppress(docker.errors.DockerException):
                container.remove(force=True, v=True)


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


def _settle_environment(port: int, docker_host: str) -> None:
    # The functions inherit this environment, so it must not have the developer's AWS settings.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(SETTINGS)
    if docker_host:
        os.environ["DOCKER_HOST"] = docker_host
    os.environ["GATEWAY_PORT"] = str(port)
    os.environ.setdefault("LOG_LEVEL", "INFO")


async def _serve(binding: str, parent: int | None, *, with_docker: bool) -> None:
    from hypercorn.asyncio import serve  # type: ignore[import-not-found]
    from hypercorn.config import Config  # type: ignore[import-not-found]
    from ministack.app import app

    config = Config()
    config.bind = [binding]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.5
    config.shutdown_timeout = 2.0
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async def told_to_stop() -> None:
        while not stop.is_set() and parent in {None, os.getppid()}:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PARENT_SECONDS)
        await asyncio.to_thread(_end_services)
        if with_docker:
            await asyncio.to_thread(_end_containers)

    await serve(app, config, shutdown_trigger=told_to_stop)


if __name__ == "__main__":
    main()
    # MiniStack's daemon threads may sleep or wait for a socket. Waiting for them would only delay the end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
