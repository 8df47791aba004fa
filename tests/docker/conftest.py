"""Containers for every function, and an embedded AWS for them to work on; both end with the session."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from emulator import application
from emulator.application import deploy_headgate, deploy_sample
from tests.docker.checkout_42 import Checkout42
from tests.local.deployed import Headgate, Service
from tests.local.ecs_jobs import Jobs
from tests.local.servers import serving
from tests.local.triggers import live, parameter
from tools.docker_engine import DockerEngine, DockerEngineError
from tools.invoke import Containers
from tools.lambda_image.build import LambdaImageError, ensure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.server import EmbeddedAws


@pytest.fixture(scope="session", autouse=True)
def own_builds() -> Iterator[Path]:
    """A folder of our own to build in: somebody may be testing from the usual one."""
    usual, application.WORK = application.WORK, application.WORK / "docker-tests"
    yield application.WORK
    application.WORK = usual


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A Docker engine. Where there is none and none can be started, this ends the tests and says what is missing."""
    with ExitStack() as open_:
        try:
            running = open_.enter_context(DockerEngine())
            ensure(running)
        except (DockerEngineError, LambdaImageError) as error:
            pytest.exit(f"tests/docker: {error}", returncode=1)
        yield running


@pytest.fixture(scope="session")
def aws(own_builds: Path, engine: DockerEngine) -> Iterator[EmbeddedAws]:
    """AWS on this machine, whose ECS tasks are containers."""
    with serving("--docker", engine.address) as embedded:
        yield embedded


@pytest.fixture(scope="session")
def deployed(aws: EmbeddedAws) -> Checkout42:
    """Headgate and the service that the sample events are about."""
    # With the cleaner and the trigger, which are deployed only if they have something to do.
    requested = {"id": "by-trigger", "target": live("no-such-function"), "candidate": {"version": "<version>"}}
    outputs = deploy_headgate(aws, CleanVersionsOfFunctions="outdated-*", PublishedVersionRequest=parameter(requested))
    deploy_sample(aws, outputs)
    return Checkout42(aws, outputs)


@pytest.fixture(scope="session")
def containers(deployed: Checkout42, engine: DockerEngine, aws: EmbeddedAws) -> Iterator[Containers]:
    """The functions in containers, on the embedded AWS."""
    with Containers(engine, aws) as running:
        yield running


@pytest.fixture(scope="session")
def headgate(deployed: Checkout42, aws: EmbeddedAws) -> Iterator[Headgate]:
    """The same Headgate, as its users see it."""
    users = Headgate(aws, deployed.outputs)
    yield users
    users.close()


@pytest.fixture(scope="session")
def jobs(headgate: Headgate, engine: DockerEngine) -> Jobs:
    """ECS tasks; the image that there is anyway has a shell, Python and boto3."""
    return Jobs(headgate, ensure(engine))


@pytest.fixture
def service(headgate: Headgate) -> Service:
    """A service of a test's own: version 1 serves, version 2 is there to be rolled out."""
    return headgate.make_service()


@pytest.fixture
def rollout(deployed: Checkout42) -> Checkout42:
    """The rollout that the sample events are about, not requested yet."""
    deployed.begin_anew()
    return deployed
