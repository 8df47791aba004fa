"""Rollouts of an ECS service whose tasks are containers: of images that differ, under requests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.catalogs import PATIENCE_SECONDS, Catalog
from tests.local.deployed import steps
from tests.local.invariants import assert_invariants
from tools.dist import telemetry_wheel
from tools.lambda_image.build import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.deployed import Headgate
    from tools.docker_engine import DockerEngine

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = """
FROM {base}
COPY app.py {wheel} /app/
ENV PYTHONPATH=/var/runtime:/app/{wheel} {environment}
ENTRYPOINT []
"""
"""As examples/catalog/Dockerfile, from the image that is there anyway: it has Python and boto3."""

BY_TELEMETRY: dict[str, Any] = {"guards": {"errors": {"tolerate": 0}}}


def build(engine: DockerEngine, folder: Path, tag: str, environment: str = "") -> str:
    """Build an image of the sample service; answers its name. Nothing is pulled and nothing runs for it."""
    wheel = telemetry_wheel(ROOT, folder)
    dockerfile = DOCKERFILE.format(base=ensure(engine), wheel=wheel.name, environment=environment)
    contents = {
        "Dockerfile": dockerfile.encode(),
        "app.py": (ROOT / "examples" / "catalog" / "app.py").read_bytes(),
        wheel.name: wheel.read_bytes(),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as context:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            context.addfile(member, io.BytesIO(content))
    packed.seek(0)
    with engine.connected() as docker:
        docker.images.build(fileobj=packed, custom_context=True, tag=tag, rm=True)
    return tag


@pytest.fixture(scope="module")
def catalog(headgate: Headgate, engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """The sample service with two containers, and images of a good and of a bad release."""
    folder = tmp_path_factory.mktemp("images")
    for tag, environment in (("catalog:1", ""), ("catalog:2", ""), ("catalog:3", "ERROR_RATE=1")):
        build(engine, folder, tag, environment)
    # The variables of the image count, where the task definition has none.
    given = {"Image": "catalog:1", "Command": "/usr/bin/python3,/app/app.py", "PythonPath": ""}
    catalog = Catalog(headgate, "green-service", "catalog", **given)
    yield catalog
    catalog.delete()


def images_of_running(engine: DockerEngine) -> list[str]:
    """The images of the service's containers."""
    with engine.connected() as docker:
        running = [each.attrs["Config"] for each in docker.containers.list(ignore_removed=True)]
    return sorted(each["Image"] for each in running if each["Image"].startswith("catalog:"))


def test_a_good_image_is_promoted_and_a_bad_one_rolled_back(
    headgate: Headgate, engine: DockerEngine, catalog: Catalog
) -> None:
    assert images_of_running(engine) == ["catalog:1", "catalog:1"]
    with catalog.traffic() as traffic:
        # WHEN a good image is rolled out
        good = catalog.revise({"images": {"app": "catalog:2"}}, keep=1, strategy=steps((50, 3)), **BY_TELEMETRY)
        record = assert_invariants(headgate, good, seconds=PATIENCE_SECONDS)
        assert (record["status"], record["candidate"]) == ("succeeded", "catalog:2"), record["reason"]
        # THEN no request has failed, and its containers alone run
        assert (traffic.unanswered, [each for each in traffic.requests if not each.ok]) == (0, [])
        assert {each.version for each in traffic.requests} == {"catalog:1", "catalog:2"}
        # WHEN a bad one is
        bad = catalog.revise({"images": {"app": "catalog:3"}}, strategy=steps((20, 600)), **BY_TELEMETRY)
        record = assert_invariants(headgate, bad, seconds=PATIENCE_SECONDS)
    # THEN it is rolled back, for what its containers have reported to the stream
    assert (record["status"], record["serving"]) == ("rolled-back", "catalog:2")
    assert "candidate requests failed against 0 of" in record["reason"]
    failed = {each.version for each in traffic.requests if not each.ok}
    assert (traffic.unanswered, failed) == (0, {"catalog:3"})
