"""``headgate versions clean``: its options, its questions, and what it prints."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from click.testing import CliRunner, Result

from headgate_cli.main import main
from headgate_cli.stack import Stack
from tests.builders import REGION, TABLE
from tests.fakes.old_versions import OldVersions
from tests.fakes.services import Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL_OLD = ("--keep", "9", "--older-than", "0")


@pytest.fixture
def fake(lambda_client: Any, dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[OldVersions]:
    """The function checkout with twelve versions, and a stack."""
    fake = OldVersions()
    fake.point("checkout:live", "12")
    scaling, metrics = boto3.client("application-autoscaling"), boto3.client("cloudwatch")
    detach = [fake.attach(client) for client in (lambda_client, scaling, metrics)]
    clients = {"lambda": lambda_client, "application-autoscaling": scaling, "cloudwatch": metrics, "dynamodb": dynamodb}
    monkeypatch.setattr(Stack, "client", lambda _, service: clients[service])
    monkeypatch.setattr(Stack, "table", TABLE)
    monkeypatch.setattr("headgate.cleanup.cleaner.PACE_SECONDS", 0)
    yield fake
    for each in detach:
        each()


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["versions", "clean", *arguments, "--region", REGION], input=typed)


def test_it_is_a_dry_run_unless_told_to_act(fake: OldVersions) -> None:
    result = run("checkout", *ALL_OLD)

    assert result.exit_code == 0
    assert "3 versions of checkout would go, 9 stay. Nothing was changed; add --apply to do it." in result.output
    assert "alias live points at it; it is among the newest 9" in result.output
    assert "Not checked: " in result.output
    assert fake.deleted == []


def test_it_deletes_without_a_question_if_told_so(fake: OldVersions) -> None:
    result = run("checkout", *ALL_OLD, "--apply", "--yes")

    assert result.exit_code == 0
    assert fake.deleted == ["checkout:1", "checkout:2", "checkout:3"]
    assert "3 versions of checkout deleted, 3.0 MB freed, 9 stay." in result.output


@pytest.mark.parametrize(("typed", "deleted", "code"), [("y\n", 3, 0), ("n\n", 0, 1), ("", 0, 1)])
def test_it_asks_before_it_deletes(
    fake: OldVersions, monkeypatch: pytest.MonkeyPatch, typed: str, deleted: int, code: int
) -> None:
    monkeypatch.setattr("headgate_cli.commands.versions._can_be_asked", lambda: True)

    result = run("checkout", *ALL_OLD, "--apply", typed=typed)

    assert "Delete 3 versions? [y/N]" in result.output
    assert result.exit_code == code
    assert len(fake.deleted) == deleted


def test_what_has_changed_while_it_asked_counts(fake: OldVersions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate_cli.commands.versions._can_be_asked", lambda: True)
    fake.point("checkout:old", "2")

    def confirm(question: str, **_: Any) -> bool:
        assert question == "Delete 2 versions?"
        # Somebody deletes the newest but the served, so that the third is among the newest 9; the second goes free.
        del fake.functions["checkout"]["11"]
        fake.aliases.pop("checkout:old")
        return True

    monkeypatch.setattr("click.confirm", confirm)
    result = run("checkout", *ALL_OLD, "--apply")

    assert result.exit_code == 0, result.output
    assert fake.deleted == ["checkout:1"]
    assert "1 of them cannot go any more; the table will say why." in result.output
    assert "it is among the newest 9" in result.output
    assert "it came up only after the question" in result.output


def test_nobody_is_asked_where_nobody_can_answer(fake: OldVersions) -> None:
    for arguments in (("--apply",), ("--apply", "--format", "json")):
        result = run("checkout", *ALL_OLD, *arguments)
        assert result.exit_code == 2
        assert "add --yes" in result.output
    assert fake.deleted == []
    assert fake.calls == [], "bad input is refused before anything is read"


def test_json_has_every_version(fake: OldVersions) -> None:
    found = json.loads(run("checkout", *ALL_OLD, "--format", "json").stdout)

    assert (found["kind"], found["name"], found["keep"], found["applied"]) == ("function", "checkout", 9, False)
    assert [each["revision"] for each in found["revisions"] if each["outcome"] == "goes"] == ["3", "2", "1"]


def test_what_cannot_be_deleted_is_told_and_the_exit_code_is_2(fake: OldVersions) -> None:
    fake.refusals["checkout:2"] = Refusal("ResourceConflictException", "in use")

    result = run("checkout", *ALL_OLD, "--apply", "--yes")

    assert result.exit_code == 2
    assert "1 version could not be deleted; the table says why" in result.output
    assert "Lambda refused: ResourceConflictException: in use" in result.stdout


def test_a_stop_is_told_with_what_was_deleted(fake: OldVersions) -> None:
    def interrupt(name: str, when: str) -> None:
        if name == "ListAliases" and fake.deleted:
            raise Refusal("AccessDeniedException", "not allowed")

    fake.interrupt = interrupt
    result = run("checkout", *ALL_OLD, "--apply", "--yes")

    assert result.exit_code == 2
    assert "1 version of checkout deleted, 1.0 MB freed, 9 stay, 2 left." in result.stdout
    assert "stopped before all were done" in result.output


def test_an_interruption_ends_after_the_version_that_is_underway(fake: OldVersions) -> None:
    fake.before_deletion = lambda: os.kill(os.getpid(), signal.SIGINT)

    result = run("checkout", *ALL_OLD, "--apply", "--yes")

    assert result.exit_code == 130
    assert fake.deleted == ["checkout:1"]
    assert "Interrupted; what is shown as deleted is, and the rest is unchanged." in result.output
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class NoFamily(Service):
    """An ECS without clusters and task definitions."""

    def ListTaskDefinitions(self, **_: str) -> dict[str, Any]:  # noqa: N802
        return {"taskDefinitionArns": []}

    def ListClusters(self) -> dict[str, Any]:  # noqa: N802
        return {"clusterArns": []}


def test_a_family_that_does_not_exist_is_named(
    fake: OldVersions, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = {"ecs": boto3.client("ecs"), "stepfunctions": boto3.client("stepfunctions"), "dynamodb": dynamodb}
    detach = NoFamily().attach(clients["ecs"])
    monkeypatch.setattr(Stack, "client", lambda _, service: clients[service])
    monkeypatch.setattr("headgate_cli.commands.versions._requested_tasks", lambda _: list)

    result = run("--family", "report")
    detach()

    assert result.exit_code == 2
    assert "there is no task definition family report" in result.output


def test_an_arn_names_its_function(fake: OldVersions) -> None:
    arn = f"arn:aws:lambda:{REGION}:123456789012:function:checkout"

    assert json.loads(run(arn, "--format", "json").stdout)["name"] == "checkout"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either the name of a function or --family"),
        (("checkout", "--family", "report"), "give either the name of a function or --family"),
        (("checkout:live",), "without a version or alias"),
        (("arn:aws:lambda:eu-central-1:123456789012:function:checkout:7",), "without a version or alias"),
        (
            ("arn:aws:lambda:us-east-1:123456789012:function:checkout",),
            "is in us-east-1, and the stack in eu-central-1",
        ),
        (("a b",), "must be the name of a function"),
        (("checkout", "--delete"), "--delete is for --family"),
        (("--family", "report:3"), "--family: must be the name of a family, without a revision"),
        (("checkout", "--keep", "0"), "--keep"),
        (("checkout", "--older-than", "a month"), "must be a duration with its unit"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(fake: OldVersions, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert said in result.output
    assert fake.calls == []
