"""``headgate init``: its questions, its choices, and the request that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headgate.spec.request import read_request
from headgate_cli import confirmation
from headgate_cli.commands import init
from headgate_cli.drafting.draft import PRESETS, Draft, checked, meaning_of, read_strategy, request_text
from headgate_cli.failures import Failure
from headgate_cli.stack import Stack
from tests.builders import ACCOUNT, REGION
from tests.fakes.services_and_balancers import Cloud
from tests.unit.cli.installations import LAMBDA, Installation, PlayedStack, Ran, played, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONSUMER = "0b52bb2c-31c7-4b40-a4d5-0f6a3f2c1b1e"
ANSWERED = ("--function", "shop-cart", "--alias", "live", "--candidate", "latest", "--strategy", "AllAtOnce")
TARGET = {"kind": "lambda-alias", "function": "shop-cart", "alias": "live"}


@pytest.fixture
def installation() -> Installation:
    made = Installation()
    made.function("shop-cart", "6", "7", live="7", blue="6")
    made.function("shop-check-cart", "1")
    made.function("basket", "1", live="1")
    dimensions = [{"Name": "FunctionName", "Value": "shop-cart"}]
    metric = {"MetricStat": {"Metric": {"Dimensions": dimensions}, "Period": 60, "Stat": "Sum"}, "Id": "m"}
    made.alarms += [
        {"AlarmName": "cart-errors", "Dimensions": dimensions},
        {"AlarmName": "cart-math", "Metrics": [{"Id": "e", "Expression": "m"}, metric]},
        {"AlarmName": "basket-errors", "Dimensions": [{"Name": "FunctionName", "Value": "basket"}]},
    ]
    return made


@pytest.fixture(autouse=True)
def stack(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedStack]:
    for made in played(installation):
        for name in ("client", "session"):
            monkeypatch.setattr(Stack, name, getattr(made, name))
        yield made


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who can be asked."""
    monkeypatch.setattr(confirmation, "can_ask", lambda: True)


def run(*options: str, typed: str = "") -> Ran:
    return run_command("init", *options, typed=typed)


def request_in(result: Ran) -> Any:
    """The request on the standard output, where the runner also shows what is typed."""
    return yaml.safe_load(result.stdout[result.stdout.index("# A request for Headgate") :])


def written(file: Path) -> Any:
    """The request in a file, as ``headgate start`` reads it."""
    text = file.read_text("utf-8")
    request = yaml.safe_load(text)
    read_request(request, "by-hand")
    return request


@pytest.mark.usefixtures("terminal")
def test_every_answer_comes_from_what_the_account_has(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    result = run("-o", str(file), typed="1\nlive\n6\nCanary10Percent10Minutes\n1,cart-math\n1\n1\nshop-check-cart\n")
    assert result.exit_code == 0, result.output
    assert written(file) == {
        "target": TARGET,
        "candidate": {"version": "6"},
        "strategy": "Canary10Percent10Minutes",
        "guards": {"alarms": ["cart-errors", "cart-math"], "errors": {}, "evidence": "cloudwatch"},
        "hooks": {
            "beforeTraffic": [
                {"lambda": "headgate-smoke-tester", "timeoutSeconds": 300, "config": {"cases": [{"payload": {}}]}}
            ],
            "afterTraffic": [{"lambda": "shop-check-cart", "timeoutSeconds": 300}],
        },
        "onFailure": "rollback",
        "onBusy": "wait",
    }
    assert "basket" not in result.output
    assert "headgate-judge" not in result.output
    assert f"headgate plan --file {file}" in result.output


@pytest.mark.usefixtures("terminal")
def test_defaults_and_empty_answers_make_a_request_too(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    assert run("-o", str(file), typed="1\n2\n\n\n\n\n\n\n").exit_code == 0
    request = written(file)
    assert request["target"]["alias"] == "blue"
    assert request["candidate"] == {"publish": {}}
    assert request["strategy"] == PRESETS[0]
    assert request["guards"] == {"errors": {}, "evidence": "cloudwatch"}
    assert "hooks" not in request


@pytest.mark.usefixtures("terminal")
def test_a_wrong_answer_is_asked_again() -> None:
    result = run("-o", "-", typed="99\nbasket\nshop-cart\n1\nseven\n7\nCanary200Percent5Minutes\nAllAtOnce\n9\n\n\n\n")
    assert result.exit_code == 0, result.output
    for said in ("99 is none", "basket is none", "must be the number of a published version", "its percent must be"):
        assert said in result.output
    assert "9: none of the choices" in result.output
    assert 'strategy: "AllAtOnce"' in result.stdout
    assert "guards: none" in result.stdout


@pytest.mark.parametrize(("strategy", "said"), [("AllAtOnce", True), (PRESETS[0], False)])
def test_a_comparison_without_a_bake_is_said_to_compare_nothing(strategy: str, *, said: bool) -> None:
    text = request_text(Draft(TARGET, "latest", strategy, evidence="cloudwatch"), "request.yaml")

    assert ("This compares nothing" in text) is said


@pytest.mark.usefixtures("terminal")
def test_enter_alone_says_what_is_wanted_or_takes_a_single_choice(installation: Installation) -> None:
    result = run("-o", "-", typed="\n1\n\nlive\n\nAllAtOnce\n\n\n\n")
    assert result.exit_code == 0, result.output
    assert result.output.count("Type one of the choices: its number or name.") == 2
    assert "Version [latest]" in result.output

    installation.function("shop-only", "1", live="1")
    single = run("-o", "-", "--function", "shop-only", typed="\n\nAllAtOnce\n\n\n\n")
    assert single.exit_code == 0, single.output
    assert request_in(single)["target"]["alias"] == "live"
    assert "Number or name [live]" in single.output


@pytest.mark.usefixtures("terminal")
def test_a_consumer_behind_the_alias_is_a_choice(installation: Installation) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders.fifo"
    installation.mappings[CONSUMER] = {"FunctionArn": f"{LAMBDA}:function:shop-cart:live", "EventSourceArn": queue}
    result = run("-o", "-", typed="1\nlive\n2\n\n\n\n\n\n")
    assert result.exit_code == 0, result.output
    assert "the consumer of orders.fifo" in result.output
    request = request_in(result)
    assert request["target"] == {"kind": "event-source", "mapping": CONSUMER}
    # The versions of a FIFO queue's consumer never work side by side.
    assert request["guards"] == "none"


@pytest.mark.usefixtures("terminal")
def test_telemetry_is_offered_if_the_target_sends_it(installation: Installation) -> None:
    import time

    installation.parameters["Telemetry"] = "true"
    note = {"pk": "TARGET#lambda-alias/shop-cart/live", "sk": "TELEMETRY", "seenAt": int(time.time())}
    installation.items.append(note)
    result = run("-o", "-", typed="1\nlive\n\nLinear10PercentEvery1Minute\n\n\n\n\n")
    assert request_in(result)["guards"] == {"errors": {}, "evidence": "telemetry"}
    assert "by the minute, without a change" not in result.output


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["1", "live", "latest"])

    def prompt(*_: Any, **__: Any) -> str:
        if (answer := next(answers, None)) is None:
            raise click.Abort
        return answer

    monkeypatch.setattr(click, "prompt", prompt)
    file = tmp_path / "request.yaml"
    assert run("-o", str(file)).exit_code == 1
    assert next(answers, None) is None
    assert list(tmp_path.iterdir()) == []


# Without a terminal


def test_without_a_terminal_all_answers_must_be_options() -> None:
    result = run("-o", "-", "--function", "shop-cart")
    assert result.exit_code == 2
    assert "give --alias, --candidate, --strategy" in result.output


def test_options_alone_make_a_request() -> None:
    result = run("-o", "-", *ANSWERED, "--alarm", "cart-errors", "--before-traffic", "shop-check-cart")
    assert result.exit_code == 0, result.output
    request = request_in(result)
    assert request["guards"] == {"alarms": ["cart-errors"]}
    assert request["hooks"]["beforeTraffic"] == [{"lambda": "shop-check-cart", "timeoutSeconds": 300}]


def test_a_consumer_can_be_named_by_its_mapping(installation: Installation) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
    installation.mappings[CONSUMER] = {"FunctionArn": f"{LAMBDA}:function:shop-cart:live", "EventSourceArn": queue}
    result = run("-o", "-", "--mapping", CONSUMER.upper(), *ANSWERED[4:])
    assert request_in(result)["target"]["mapping"] == CONSUMER


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--function", "basket", *ANSWERED[2:]), "basket is not covered by Headgate's parameter TargetFunctions"),
        (("--function", "headgate-judge", *ANSWERED[2:]), "one of Headgate's own functions"),
        (("--function", "shop-till", *ANSWERED[2:]), "shop-till does not exist"),
        ((*ANSWERED[:2], "--alias", "green", *ANSWERED[4:]), "has no alias green; it has live, blue"),
        (("--function", "shop-check-cart", *ANSWERED[2:]), "has no alias, and only an alias"),
        ((*ANSWERED, "--mapping", CONSUMER), "leave out --function and --alias"),
        (("--mapping", CONSUMER, *ANSWERED[4:]), "does not exist"),
        ((*ANSWERED[:4], "--candidate", "$LATEST", *ANSWERED[6:]), "or latest (given $LATEST)"),
        ((*ANSWERED[:6], "--strategy", "canary"), "not a preset"),
        ((*ANSWERED[:6], "--strategy", "{"), "is not JSON"),
        ((*ANSWERED, "--alarm", "arn:aws:cloudwatch:eu-central-1:1:alarm:x"), "give the name of the alarm"),
    ],
)
def test_a_wrong_option_is_refused_with_its_fix(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    file = tmp_path / "request.yaml"
    result = run("-o", str(file), *options)
    assert result.exit_code == 2
    assert said in result.output
    assert not file.exists()


# Files


def test_a_file_is_never_overwritten_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "request.yaml"
    file.write_text("mine")
    result = run("-o", str(file), *ANSWERED)
    assert result.exit_code == 2
    assert "give --force" in result.output
    monkeypatch.setattr(confirmation, "can_ask", lambda: True)
    # No alarm and no hook, and then no.
    assert run("-o", str(file), *ANSWERED, typed="\n\n\nn\n").exit_code == 1
    assert file.read_text() == "mine"
    assert run("-o", str(file), *ANSWERED, typed="\n\n\ny\n").exit_code == 0
    assert written(file)["target"] == TARGET


def test_force_overwrites_a_file(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    file.write_text("mine")
    assert run("-o", str(file), *ANSWERED, "--force").exit_code == 0
    assert written(file)["target"] == TARGET
    assert [each.name for each in tmp_path.iterdir()] == ["request.yaml"]


def test_a_file_in_no_folder_is_refused_before_anything_is_asked(tmp_path: Path, installation: Installation) -> None:
    for file in (tmp_path / "none" / "request.yaml", tmp_path):
        result = run("-o", str(file), *ANSWERED)
        assert result.exit_code == 2
        assert "cannot be written" in result.output
    assert installation.called == []


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path as AnyPath

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AnyPath, "replace", full)
    with pytest.raises(Failure, match="No space left"):
        init._write(str(tmp_path / "request.yaml"), "text")
    assert list(tmp_path.iterdir()) == []


# The text


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_valid_request(preset: str) -> None:
    assert checked(request_text(Draft(TARGET, "latest", preset, ["a"]), "-")).strategy == preset


@pytest.mark.parametrize(
    ("strategy", "meaning"),
    [
        ("Canary10Percent5Minutes", "10 % for 5 min, then all traffic"),
        ("Linear25PercentEvery90Seconds", "25 %, then 50 %, and so on: 3 steps in 270 s, then all traffic"),
        ("AllAtOnce", "all traffic at once"),
        ('{"steps": [{"weight": 5, "bakeSeconds": 60}]}', "5 % for 1 min, then all traffic"),
    ],
)
def test_a_strategy_is_explained(strategy: str, meaning: str) -> None:
    assert meaning_of(read_strategy(strategy)) == meaning


def test_a_strategy_in_json_is_kept() -> None:
    strategy = '{"steps": [{"weight": 5, "bakeSeconds": 60}, {"weight": 50, "bakeSeconds": 60}]}'
    text = request_text(Draft(TARGET, "latest", read_strategy(strategy)), "-")
    assert yaml.safe_load(text)["strategy"] == read_strategy(strategy)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=100).filter(lambda text: not text.startswith("arn:")))
def test_any_name_of_an_alarm_comes_back_as_it_is(name: str) -> None:
    request = checked(request_text(Draft(TARGET, "7", "AllAtOnce", [name, "b"]), "request.yaml"))
    assert request.asked_guards.alarms == [name, "b"]


# ECS services

SERVICE = {"kind": "ecs-service", "cluster": "prod", "service": "shop"}


@pytest.fixture
def cloud(installation: Installation, stack: PlayedStack, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Two services in one cluster, the second service of a rollout, and an alarm on a target group."""
    cloud = Cloud()
    shop = cloud.shop()
    cloud.shop(name="cart")
    cloud.ecs.create_service(
        cluster="prod", serviceName="shop-hg-1a2b3c4d", taskDefinition="shop:7", desiredCount=1, launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"]}},
    )  # fmt: skip
    group = shop.stable[0].rpartition(":")[2]
    installation.alarms.append({"AlarmName": "shop-5xx", "Dimensions": [{"Name": "TargetGroup", "Value": group}]})
    installation.parameters |= {"TargetServices": "s*", "TargetClusters": "*"}
    installation.outputs["HttpSmokeTesterName"] = "headgate-http-smoke-tester"
    client = stack.client
    monkeypatch.setattr(Stack, "client", lambda _, name: cloud.ecs if name == "ecs" else client(name))
    return cloud


@pytest.mark.usefixtures("terminal", "cloud")
def test_services_of_the_account_are_offered_with_their_revisions_alarms_and_hooks(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    result = run("-o", str(file), typed="2\n\nCanary10Percent10Minutes\n1\n1\n1\n\n")
    assert result.exit_code == 0, result.output
    assert "prod/shop" in result.output
    assert "prod/cart" not in result.output
    assert "-hg-" not in result.output
    assert written(file) == {
        "target": SERVICE,
        "candidate": {"taskDefinition": "shop:7"},
        "strategy": "Canary10Percent10Minutes",
        "guards": {"alarms": ["shop-5xx"], "errors": {}, "evidence": "cloudwatch"},
        "hooks": {
            "beforeTraffic": [
                {
                    "lambda": "headgate-http-smoke-tester",
                    "timeoutSeconds": 300,
                    "config": {"path": "/", "expectStatus": 200},
                }
            ]
        },
        "onFailure": "rollback",
        "onBusy": "wait",
    }


@pytest.mark.usefixtures("terminal", "cloud")
def test_a_function_is_still_the_first_choice(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    result = run("-o", str(file), typed="\n1\nlive\n6\nAllAtOnce\n\n\n\n")
    assert result.exit_code == 0, result.output
    assert written(file)["target"] == TARGET


@pytest.mark.usefixtures("cloud")
def test_options_alone_write_the_request_of_a_service() -> None:
    result = run("-o", "-", "--service", "prod/shop", "--candidate", "shop:7", "--strategy", "AllAtOnce")
    assert result.exit_code == 0, result.output
    request = request_in(result)
    assert (request["target"], request["candidate"]) == (SERVICE, {"taskDefinition": "shop:7"})


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--service", "shop"), "--service: must be a cluster and its service"),
        (("--service", "prod/cart"), "cart is not covered by Headgate's parameter TargetServices, which is s*"),
        (("--service", "prod/shop", "--function", "shop-cart"), "--service: names the target, and so does --function"),
        (("--service", "prod/shop", "--candidate", "7"), "--candidate: must be family:revision"),
        (("--service", "prod/shop", "--candidate", "latest"), "--candidate: must be family:revision"),
    ],
)
def test_what_is_no_request_of_a_service_is_refused(options: tuple[str, ...], said: str) -> None:
    given_options = dict(zip(options[::2], options[1::2], strict=True))
    given_options = {"--candidate": "shop:7", "--strategy": "AllAtOnce", **given_options}
    result = run("-o", "-", *(word for pair in given_options.items() for word in pair))
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
