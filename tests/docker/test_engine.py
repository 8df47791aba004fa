"""The engine and the image that the containers run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.docker_engine import DockerEngine
from tools.lambda_image.build import ensure

if TYPE_CHECKING:
    import pytest


def test_a_second_user_shares_the_engine_and_leaves_it_up(engine: DockerEngine) -> None:
    with DockerEngine() as second:
        assert second.host == engine.host

    with engine.connected() as client:
        assert client.ping()


def test_the_image_is_made_once(engine: DockerEngine, capsys: pytest.CaptureFixture[str]) -> None:
    name = ensure(engine)

    assert capsys.readouterr().out == ""
    with engine.connected() as client:
        assert name.split("-")[0] in client.images.get(name).tags
