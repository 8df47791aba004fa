"""The examples of pipelines, and the GitHub Action, are wired as they should be, and their scripts do what they say.

`make lint` checks the files of GitHub and GitLab against their schemas. There is none of CodeBuild's file.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import yaml
from cfnlint.decode import cfn_yaml
from pydantic import BaseModel, ConfigDict, Field

from headgate.aws.place import Place
from headgate.ids import is_rollout_id
from headgate.planning.deployment_limits import refuse_outside_deployment
from headgate.spec.request import is_too_short_for_cloudwatch, read_request
from headgate.spec.strategy import steps_of as stages
from tests.builders import ROOT
from tests.composite import ACTION, EXPRESSION
from tests.docs.pages import all_blocks, blocks
from tests.unit.examples.programs import Shell

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "examples" / "pipelines"
WORKFLOWS = sorted(FOLDER.glob("github-*.yml"))
CODEPIPELINE = FOLDER / "codepipeline.yaml"
MAX_CONFIGURATION = 1000
"""https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ActionDeclaration.html"""


Text = Annotated[str, Field(min_length=1)]


class File(BaseModel):
    """A part of ``buildspec.yml``: https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Phase(File):
    """A phase of a build."""

    runtime_versions: dict[Literal["python"], str] = Field(default={}, alias="runtime-versions")
    commands: list[Text]
    finally_: list[Text] = Field(default=[], alias="finally")


class BuildEnvironment(File):
    """The environment of a build."""

    shell: Literal["bash"]
    exported_variables: list[Text] = Field(default=[], alias="exported-variables")


class Buildspec(File):
    """``buildspec.yml``."""

    version: Annotated[float, Field(ge=0.2, le=0.2)]
    env: BuildEnvironment
    phases: dict[Literal["install", "pre_build", "build", "post_build"], Phase]
    artifacts: dict[Literal["files"], list[Text]] = {}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def gitlab(*jobs: str) -> tuple[dict[str, str], list[Any]]:
    """The variables of the pipeline, and some of its jobs."""
    found = read(FOLDER / "gitlab-ci.yml")
    return found["variables"], [found[job] for job in jobs]


def steps_of(path: Path) -> list[dict[str, Any]]:
    """The steps of the one job of a workflow."""
    (job,) = read(path)["jobs"].values()
    return list(job["steps"])


def buildspec() -> Buildspec:
    return Buildspec.model_validate(read(FOLDER / "buildspec.yml"))


def codepipeline() -> dict[str, Any]:
    template: dict[str, Any] = cfn_yaml.load(str(CODEPIPELINE))
    return template


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


# The page


def test_the_page_shows_what_is_in_the_files() -> None:
    shown = [block for block in all_blocks("yaml") if block.page == "pipelines.md"]
    assert len(shown) == len(list(FOLDER.iterdir()))
    for block in shown:
        text = (ROOT / block.title).read_text("utf-8")
        assert "\n".join(line.strip() for line in block.body.splitlines()) in "\n".join(
            line.strip() for line in text.splitlines()
        ), block.title


def test_the_page_lists_the_inputs_and_outputs_of_the_action() -> None:
    page = (ROOT / "docs" / "pipelines.md").read_text("utf-8")
    listed = page.partition("<!-- action-inputs -->\n")[2].partition("<!-- /action-inputs -->")[0].splitlines()
    rows = [line for line in listed if line.startswith("| `")]
    inputs = [
        f"| `{name}` | {f'`{given}` ' if (given := each.get('default', '')) else ''}| {each['description']} |"
        for name, each in ACTION["inputs"].items()
    ]
    outputs = [f"| `{name}` | {each['description']} |" for name, each in ACTION["outputs"].items()]
    assert rows == [*inputs, *outputs]


# The action


def test_action_gives_each_input_to_a_step_and_to_no_script() -> None:
    steps = ACTION["runs"]["steps"]
    assert not [step["run"] for step in steps if "${{" in step["run"]]
    values = [value for step in steps for value in step["env"].values()]
    values += [output["value"] for output in ACTION["outputs"].values()]
    named = {found for value in values for found in EXPRESSION.findall(value)}
    assert {name for name in named if name.startswith("inputs.")} == {f"inputs.{name}" for name in ACTION["inputs"]}
    script = (ROOT / "actions" / "rollout.py").read_text("utf-8")
    outputs = set(re.findall(r'set_output\("([\w-]+)"', script))
    assert {name.rpartition(".")[2] for name in named if name.startswith("steps.")} == outputs
    # What the script reads is what the steps give it.
    read_by_name = set(re.findall(r'(?:given|lines|switch)\(["\']([\w-]+)["\']', script)) | {
        "version",
        "strategy",
        "file",
    }
    assert {"INPUT_" + name.upper().replace("-", "_") for name in read_by_name | {"publish", "errors"}} == {
        name for step in steps for name in step["env"]
    }


# GitHub


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_has_the_least_permissions_and_no_expression_in_a_script(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    # A new push must not cancel a rollout.
    assert not workflow["concurrency"].get("cancel-in-progress")
    assert not [step for step in steps_of(path) if "${{" in step.get("run", "")]


def test_workflow_uses_inputs_and_outputs_that_the_action_has(shell: Shell, tmp_path: Path) -> None:
    publish, rollout = steps_of(FOLDER / "github-rollout.yml")[-2:]
    assert rollout["with"].keys() <= ACTION["inputs"].keys()
    output = tmp_path / "output"
    assert shell(publish["run"], GITHUB_OUTPUT=str(output)).code == 0
    assert output.read_text("utf-8") == "version=8\n"
    assert rollout["with"]["version"] == f"${{{{ steps.{publish['id']}.outputs.version }}}}"


def test_workflow_has_credentials_as_long_as_its_deployment_may_last() -> None:
    path = FOLDER / "github-sam-deploy.yml"
    (job,) = read(path)["jobs"].values()
    (credentials,) = [step["with"] for step in steps_of(path) if "configure-aws" in step.get("uses", "")]
    assert credentials["role-duration-seconds"] >= 60 * job["timeout-minutes"]


def test_workflow_deploys_with_the_commit_as_the_release(shell: Shell) -> None:
    scripts = [step["run"] for step in steps_of(FOLDER / "github-sam-deploy.yml") if "run" in step]
    ran = shell("\n".join(scripts), GITHUB_SHA="0a1b2c")
    assert [call[1] for call in ran.calls] == ["build", "deploy"]
    assert ran.calls[1][-2:] == ["--parameter-overrides", "Release=0a1b2c"]


# GitLab


def test_gitlab_rolls_out_the_version_that_it_publishes(shell: Shell, tmp_path: Path) -> None:
    variables, (aws, publish, rollout) = gitlab(".aws", "publish", "rollout")
    token = tmp_path / "token"
    given = {**variables, "AWS_TOKEN": "a.b.c", "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}
    assert shell("\n".join([*aws["before_script"], *publish["script"]]), **given).code == 0
    assert (tmp_path / "version.env").read_text("utf-8") == "VERSION=8\n"
    assert (token.read_text("utf-8"), token.stat().st_mode & 0o777) == ("a.b.c", 0o600)
    given |= {"VERSION": "8", "CI_PROJECT_PATH_SLUG": "acme-checkout", "CI_JOB_ID": "42", "HEADGATE_WHEEL": "a wheel"}
    for code in (0, 3):
        ran = shell("\n".join([*aws["before_script"], *rollout["script"]]), **given, START_CODE=str(code))
        assert ran.code == code
        assert ran.of("pip")[-1] == "a wheel"
        start = ran.of("headgate", "start")
        assert start[2:5] == ["checkout:live", "--version", "8"]
        assert is_rollout_id(start[start.index("--id") + 1])
        # The report comes after every end, and does not hide it.
        assert ran.of("headgate", "report")[2] == start[start.index("--id") + 1] == "acme-checkout-42"
    assert rollout["artifacts"]["when"] == "always"
    assert rollout["interruptible"] is False


def test_gitlab_has_a_button_that_aborts(shell: Shell) -> None:
    variables, (abort,) = gitlab("abort")
    assert [rule["when"] for rule in abort["rules"]] == ["manual"]
    given = {**variables, "CI_PIPELINE_ID": "7", "HEADGATE_WHEEL": "a wheel"}
    assert shell("\n".join(abort["script"]), **given).of("headgate", "abort")[2] == "checkout:live"


# AWS


def test_codebuild_ends_as_the_rollout_does(shell: Shell) -> None:
    phases = buildspec().phases
    given = {"TARGET": "checkout:live", "VERSION": "8", "CODEBUILD_BUILD_ID": "rollout:1a2b-3c", "HEADGATE_WHEEL": "w"}
    assert shell("\n".join(phases["install"].commands), **given).of("pip")[-1] == "w"
    for code in (0, 3):
        ran = shell("\n".join(phases["build"].commands), **given, START_CODE=str(code))
        start = ran.of("headgate", "start")
        assert (ran.code, start[2:5]) == (code, ["checkout:live", "--version", "8"])
        assert is_rollout_id(start[start.index("--id") + 1])
    # CodeBuild runs these even after a command has failed; theirs must not make a build fail.
    assert shell("\n".join(phases["build"].finally_), **given).code == 0


def test_codepipeline_starts_the_rollout_machine_with_a_request() -> None:
    resources = codepipeline()["Resources"]
    by_condition = resources["Pipeline"]["Properties"]["Stages"][-1]["Actions"][0]["Fn::If"]
    by_build, by_machine = by_condition[1], by_condition[2]
    sent = by_machine["Configuration"]["Input"]["Fn::Sub"]
    assert len(sent) <= MAX_CONFIGURATION
    for name, value in {"${FunctionName}": "checkout", "${Alias}": "live", "#{Publish.VERSION}": "8"}.items():
        sent = sent.replace(name, value)
    request = read_request(json.loads(sent), "checkout-1624a1d1-3699-43f0-8e1e-6bafd7fde791")
    assert (request.target.key, request.asked_guards.alarms) == ("lambda-alias/checkout/live", ["checkout-errors"])
    # Telemetry is not deployed by default.
    refuse_outside_deployment(request, Place("aws", "123456789012", "eu-central-1"), telemetry=False)
    assert not any(is_too_short_for_cloudwatch(step) for step in stages(request.strategy))
    # The variable that both actions name is exported by the action before.
    publish = Buildspec.model_validate(yaml.safe_load(resources["PublishProject"]["Properties"]["Source"]["BuildSpec"]))
    assert publish.env.exported_variables == ["VERSION"]
    (variable,) = json.loads(by_build["Configuration"]["EnvironmentVariables"])
    assert variable == {"name": "VERSION", "value": "#{Publish.VERSION}"}


def test_codepipeline_lets_the_build_send_what_the_page_lets_it_send() -> None:
    page = (ROOT / "docs" / "pipelines.md").read_text("utf-8")
    (policy,) = [block.body for block in blocks("pipelines.md", page) if block.title == "IAM policy"]
    (shown,) = [each["Condition"] for each in json.loads(policy)["Statement"] if each["Action"] == "events:PutEvents"]
    shown["ForAllValues:StringEquals"]["events:detail-type"] = "Rollout Requested"  # It never aborts.
    policies = codepipeline()["Resources"]["RolloutRole"]["Properties"]["Policies"]
    statements = policies[0]["PolicyDocument"]["Statement"]
    (given,) = [each.get("Condition") for each in statements if each["Action"] == "events:PutEvents"]
    assert given == shown


def test_codepipeline_publishes_a_version(shell: Shell) -> None:
    source = codepipeline()["Resources"]["PublishProject"]["Properties"]["Source"]
    commands = Buildspec.model_validate(yaml.safe_load(source["BuildSpec"])).phases["build"].commands
    ran = shell("\n".join([*commands, 'test "$VERSION" = 8']), FUNCTION="checkout")
    assert (ran.code, ran.of("aws")[1:3]) == (0, ["lambda", "update-function-code"])


WITHOUT_TELEMETRY = [
    *FOLDER.iterdir(),
    *(ROOT / "examples").glob("terraform-*/*.tf"),
    *(ROOT / "cli" / "headgate_cli" / "commands" / f"{command}.py" for command in ("start", "plan")),
    *(ROOT / "docs" / f"{page}.md" for page in ("pipelines", "terraform", "cdk", "triggers", "command-line")),
]


@pytest.mark.parametrize("path", WITHOUT_TELEMETRY, ids=lambda path: path.name)
def test_a_default_installation_takes_each_request(path: Path) -> None:
    # It has no telemetry, so a comparison says that CloudWatch counts, and each bake lasts long enough for that.
    text = path.read_text("utf-8").replace("\\\n", " ").replace("\n        --", " --").replace("\n          --", " --")
    compare = re.compile(r"--(errors|latency)\b|\berrors: true|[\"']?errors[\"']?\s*[:=]\s*\{")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        # A table names options, and a simulation judges what is recorded: neither begins a rollout.
        if compare.search(line) and not line.startswith("|") and "headgate simulate" not in line:
            # An input of the action stands on a line of its own.
            request = "\n".join(lines[max(number - 2, 0) : number + 2]) if "errors: true" in line else line
            assert re.search(r"evidence\W+cloudwatch", request), line


def test_each_file_is_tested_here() -> None:
    known = {*WORKFLOWS, FOLDER / "gitlab-ci.yml", FOLDER / "buildspec.yml", CODEPIPELINE}
    assert {path for path in FOLDER.iterdir() if path.suffix in (".yml", ".yaml")} == known
