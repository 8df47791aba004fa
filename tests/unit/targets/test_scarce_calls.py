"""A hundred rollouts at once on the 15 control-plane calls a second that Lambda allows, in virtual time.

Real boto3 clients with their retries call a Lambda that throttles, and a machine retries as the definition says.
"""

from __future__ import annotations

import json
import random
import statistics
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict

from headgate.aws import clients
from headgate.aws.pace import Pace
from headgate.errors import TargetNotReady
from headgate.rollouts.record import RolloutRecord
from headgate.targets.driver import drive, is_urgent
from headgate.targets.lambda_alias import AliasState, LambdaAliasDriver
from headgate.targets.scaling_targets import ScalingTargets
from tests.builders import TARGET, plan_of
from tests.fakes.scaling import FakeScaling
from tests.fakes.virtual_time import VirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable

MACHINE = json.loads(Path("statemachines/rollout.asl.json").read_text())["States"]
STATES = {"prepare": "Prepare", "shift": "Shift", "promote": "Promote", "rollback": "Roll back"}
CALLS_PER_SECOND = 15
CALL_SECONDS = 0.03
OWN_QUOTA = ("GetFunction", "Invoke")


class ScarceLambda:
    """Lambda over HTTP: each function has an alias on version 6, and all calls share a token bucket."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._tokens, self._at = float(CALLS_PER_SECOND), 0.0
        self._aliases: dict[str, dict[str, Any]] = {}
        self.throttled = 0

    def answer(self, request: Any, **_: Any) -> AWSResponse:
        """Answer a request as botocore is about to send it."""
        self._time.sleep(CALL_SECONDS)
        *_, function, what = request.url.partition("?")[0].removesuffix("/aliases/live").rsplit("/", 2)
        if what not in ("provisioned-concurrency", "functions"):
            function = what
        if request.method == "GET" and request.url.partition("?")[0].endswith(f"/functions/{function}"):
            version = request.url.rpartition("=")[2]
            return _response(request, 200, {"Configuration": {"Version": version, "State": "Active"}})
        if not self._takes_token():
            self.throttled += 1
            return _response(request, 429, {"message": "Rate exceeded"}, "TooManyRequestsException")
        if "provisioned-concurrency" in request.url:
            return _response(request, 404, {"message": "none"}, "ProvisionedConcurrencyConfigNotFoundException")
        alias = self._aliases.setdefault(function, {"FunctionVersion": "6", "RevisionId": "r-0"})
        if request.method == "PUT":
            alias |= json.loads(request.body) | {"RevisionId": f"r-{int(alias['RevisionId'][2:]) + 1}"}
        return _response(request, 200, alias)

    def _takes_token(self) -> bool:
        more = (self._time.now - self._at) * CALLS_PER_SECOND
        self._tokens, self._at = min(float(CALLS_PER_SECOND), self._tokens + more), self._time.now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _response(request: Any, status: int, body: dict[str, Any], error: str = "") -> AWSResponse:
    headers = {"x-amzn-ErrorType": error} if error else {}
    raw = BytesIO(json.dumps(body).encode())
    raw.stream = lambda **_: iter([raw.read()])  # type: ignore[attr-defined]
    return AWSResponse(request.url, status, HeadersDict(headers), raw)  # type: ignore[arg-type]


class Rollout:
    """A rollout's record, and its machine as far as it calls the driver."""

    def __init__(self, number: int, time: VirtualTime, client_for: Callable[[str], Any]) -> None:
        self._target = TARGET | {"function": f"checkout-{number}"}
        self._plan = plan_of(target=self._target)
        self._time, self._client_for = time, client_for
        self._jitter = random.Random(number)
        self._record = RolloutRecord("checkout-42", "running", "arn")
        self.state: dict[str, Any] = {}
        self.failed = ""

    def require_lock(self, _: Any) -> None: ...

    def is_rolling_back(self, _: str) -> bool:
        return False

    def enter(self, *_: Any) -> RolloutRecord:
        return self._record

    def keep_state(self, _: str, state: dict[str, Any], **__: Any) -> None:
        self.state = state

    def keep_pending(self, *_: Any, **__: Any) -> None: ...

    def goes_forward(self) -> None:
        """Carry the rollout through without bakes."""
        for action in ("prepare", "shift", "promote"):
            if not self.call(action):
                break

    def call(self, action: str) -> bool:
        """Call the driver until it has carried out an action. Return False if the machine gives up."""
        retried: dict[int, int] = {}
        while True:
            try:
                self.drive(action)
            except Exception as error:  # noqa: BLE001 - whatever a function raises, the machine has a rule for it
                wait = self._wait(STATES[action], type(error).__name__, retried)
                if wait is None:
                    self.failed = f"{action}: {error}"
                    return False
                self._time.sleep(wait)
            else:
                return True

    def drive(self, action: str) -> None:
        """Call the driver once."""
        call = {"plan": self._plan.to_wire(), "epoch": 1, "target": self._target, "action": action, "weight": 10}
        client = self._client_for(action)
        drive(
            call | {"state": self.state},
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            lambda plan, still_ours, aim: LambdaAliasDriver(
                client, ScalingTargets(FakeScaling()), plan, still_ours, aim, rejected=lambda _: None
            ),
            AliasState,
            now=lambda: self._time.now,
        )

    def _wait(self, state: str, error: str, retried: dict[int, int]) -> float | None:
        """Return the wait before the retry of an error, as Step Functions chooses it."""
        for number, rule in enumerate(MACHINE[state]["Retry"]):
            if error not in rule["ErrorEquals"] and rule["ErrorEquals"] != ["States.ALL"]:
                continue
            times = retried[number] = retried.get(number, 0) + 1
            if times > rule["MaxAttempts"]:
                return None
            longest = min(rule["MaxDelaySeconds"], rule["IntervalSeconds"] * rule["BackoffRate"] ** (times - 1))
            return self._jitter.uniform(0, longest)
        return None


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    virtual = VirtualTime()
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=virtual.sleep))
    random.seed(0)
    return virtual


@pytest.fixture
def client_for(time: VirtualTime, _nobodys_account: None) -> Callable[[str], Any]:
    """Clients as the driver's function has them: one is patient and one urgent."""
    scarce = ScarceLambda(time)
    made = {}
    for urgent in (False, True):
        pace = Pace()
        pace.urgent = urgent
        made[urgent] = clients.mover(pace)
        made[urgent].meta.events.register("before-send.lambda", scarce.answer)
    return lambda action: made[is_urgent({"action": action, "weight": 10})]


def test_a_rollback_amid_a_hundred_other_moves_takes_seconds_and_none_of_them_fails(
    time: VirtualTime, client_for: Callable[[str], Any]
) -> None:
    others = [Rollout(number, time, client_for) for number in range(100)]
    harmed = [Rollout(number, time, client_for) for number in range(100, 130)]
    took: list[float] = []

    def roll_back(rollout: Rollout) -> None:
        begun = time.now
        assert rollout.call("rollback")
        took.append(time.now - begun)

    for number, rollout in enumerate(harmed):
        time.start(0, lambda rollout=rollout: rollout.call("prepare") and rollout.call("shift"))  # type: ignore[misc]
        time.start(100.2 + 0.7 * number, lambda rollout=rollout: roll_back(rollout))  # type: ignore[misc]
    for rollout in others:
        time.start(100, rollout.goes_forward)
    time.run()
    assert {rollout.failed for rollout in others} == {""}
    # Without a pace, it is up to 15 to 40 seconds: the first ones to be throttled wait the longest.
    assert len(took) == len(harmed)
    assert statistics.median(took) < 0.5
    assert max(took) < 3
    # All calls take 40 seconds at least, so the others wait hardly longer than they must.
    assert time.now - 100 < 75


@pytest.mark.parametrize(("action", "attempts"), [("rollback", 61), ("shift", 3)])
def test_a_call_that_stays_throttled_is_given_back_to_the_machine(
    time: VirtualTime, client_for: Callable[[str], Any], action: str, attempts: int
) -> None:
    scarce = client_for(action).meta.events
    tries: list[Any] = []

    def throttle(request: Any, **_: Any) -> AWSResponse:
        tries.append(request)
        return _response(request, 429, {"message": "Rate exceeded"}, "TooManyRequestsException")

    rollout = Rollout(1, time, client_for)
    rollout.state = AliasState(stable="6", candidate="7", revision_id="r-0").to_wire()
    scarce.register_first("before-send.lambda", throttle)
    errors: list[BaseException] = []

    def drive_once() -> None:
        try:
            rollout.drive(action)
        except TargetNotReady as error:
            errors.append(error)

    time.start(0, drive_once)
    time.run()
    assert [str(error) for error in errors] == [f"{action}: Lambda's quota of control-plane calls is used up"]
    assert len(tries) == attempts
    assert time.now < 20


def test_other_errors_are_repeated_as_botocore_does(time: VirtualTime, client_for: Callable[[str], Any]) -> None:
    answers = [503, 503, 200]
    client = client_for("rollback")
    client.meta.events.register_first(
        "before-send.lambda",
        lambda request, **_: _response(request, answers.pop(0), {"FunctionVersion": "6", "RevisionId": "r-1"}),
    )
    time.start(0, lambda: client.get_alias(FunctionName="checkout", Name="live"))
    time.run()
    assert answers == []
