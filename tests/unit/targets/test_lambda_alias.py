"""The driver of Lambda aliases: absolute weights, and never a fight over an alias with somebody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from botocore.validate import ParamValidator

from headgate.errors import CandidateGone, LockLost, RequestRefused, TargetChanged
from headgate.spec.position import PROMOTED, Weight
from headgate.targets.lambda_alias import AliasState, LambdaAliasDriver
from headgate.targets.progress import Pending
from headgate.targets.scaling_targets import ScalingTargets
from tests.builders import TARGET, done, finished, pending, plan_of
from tests.fakes.scaling import FakeScaling
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.record import RejectedCode
    from headgate.spec.position import Position
    from tests.fakes.services import FakeLambda

ROLE = "arn:aws:iam::123456789012:role/other"
QUEUE = "arn:aws:sqs:eu-central-1:123456789012:lost"


@pytest.fixture
def scaling() -> FakeScaling:
    return FakeScaling()


@pytest.fixture
def driving(lambda_client: Any, scaling: FakeScaling) -> Callable[..., LambdaAliasDriver]:
    """Makes a driver of a plan that differs from the usual one in these fields."""

    def make(
        still_ours: Callable[[], None] = lambda: None,
        aim: Position | None = None,
        rejected: RejectedCode | None = None,
        **fields: Any,
    ) -> LambdaAliasDriver:
        plan = plan_of(**fields)
        return LambdaAliasDriver(
            lambda_client, ScalingTargets(scaling), plan, still_ours, aim, rejected={"checkout": rejected}.get
        )

    return make


@pytest.fixture
def driver(driving: Callable[..., LambdaAliasDriver]) -> LambdaAliasDriver:
    return driving()


@pytest.fixture
def prepared(checkout: FakeLambda, driver: LambdaAliasDriver) -> AliasState:
    return done(driver.prepare())


def lost() -> None:
    raise LockLost("the lock is free")


class TestPreparing:
    def test_it_knows_both_versions_and_moves_nothing(self, checkout: FakeLambda, driver: LambdaAliasDriver) -> None:
        state = done(driver.prepare())
        assert (state.stable, state.candidate, state.position, state.shifted_at) == ("6", "7", Weight(0), 0)
        assert state.revision_id == checkout.aliases["live"]["RevisionId"]
        assert checkout.serves() == ("6", {})

    def test_it_publishes_what_latest_holds_once(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "new"
        driver = driving(candidate={"publish": {}})
        assert [done(driver.prepare()).candidate, done(driver.prepare()).candidate] == ["8", "8"]
        assert len(checkout.versions) == 8

    @pytest.mark.parametrize(
        ("code", "sent"),
        [
            ({"imageUri": "repository:42"}, '{"ImageUri": "repository:42"}'),
            ({"s3Bucket": "releases", "s3Key": "c.zip"}, '{"S3Bucket": "releases", "S3Key": "c.zip"}'),
            (
                {"s3Bucket": "releases", "s3Key": "c.zip", "s3ObjectVersion": "3"},
                '{"S3Bucket": "releases", "S3Key": "c.zip", "S3ObjectVersion": "3"}',
            ),
        ],
    )
    def test_it_puts_new_code_in_place_and_publishes_it(
        self, checkout: FakeLambda, driving: Any, code: dict[str, str], sent: str
    ) -> None:
        assert finished(driving(candidate={"code": code}).prepare).candidate == "8"
        assert checkout.code == sent

    @pytest.mark.usefixtures("checkout")
    @pytest.mark.parametrize(
        ("target", "why"),
        [
            (TARGET | {"alias": "beta"}, "target: function checkout with alias beta does not exist; check both names"),
            (TARGET | {"function": "basket"}, "target: function basket with alias live does not exist"),
        ],
    )
    def test_a_target_that_does_not_exist_is_refused(self, driving: Any, target: dict[str, str], why: str) -> None:
        with pytest.raises(RequestRefused, match=why):
            driving(target=target).prepare()

    def test_a_function_that_headgate_may_not_touch_is_refused_at_once(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal("AccessDeniedException", "User: driver is not authorized to perform: lambda:GetAlias")

        monkeypatch.setattr(checkout, "GetAlias", refuse)
        # AND whoever looks what it serves, after that refusal, is told the same.
        for look in (driver.prepare, driver.describe):
            with pytest.raises(
                RequestRefused, match=r"^target\.function: checkout .* Headgate's parameter TargetFunctions: U"
            ):
                look()

    def test_a_service_that_fails_is_asked_again(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**_: Any) -> Any:
            raise Refusal("InternalFailure")

        monkeypatch.setattr(checkout, "GetAlias", fail)
        with pytest.raises(ClientError):
            driver.prepare()

    def test_an_alias_of_latest_is_refused(self, checkout: FakeLambda, driver: LambdaAliasDriver) -> None:
        checkout.point("live", "$LATEST")
        with pytest.raises(RequestRefused, match=r"points at \$LATEST; point it at a published version first"):
            driver.prepare()

    def test_an_alias_that_splits_already_is_refused(self, checkout: FakeLambda, driver: LambdaAliasDriver) -> None:
        checkout.point("live", "5", {"6": 0.25})
        with pytest.raises(
            RequestRefused, match=r"checkout:live already sends 25 % to version 6; remove these weights first"
        ):
            driver.prepare()

    def test_a_weight_of_nothing_is_no_split(self, checkout: FakeLambda, driver: LambdaAliasDriver) -> None:
        checkout.point("live", "6", {"5": 0.0})
        state = done(driver.shift(done(driver.prepare()), 10))
        assert checkout.serves() == ("6", {"7": 0.1})
        # AND neither is it somebody else's move.
        checkout.point("live", "6", {"7": 0.0})
        assert done(driver.rollback(state)).position == Weight(0)

    @pytest.mark.usefixtures("checkout")
    def test_a_version_that_does_not_exist_is_refused(self, driving: Any) -> None:
        with pytest.raises(RequestRefused, match=r"candidate\.version: checkout has no version 99"):
            driving(candidate={"version": "99"}).prepare()

    @pytest.mark.usefixtures("checkout")
    def test_what_serves_already_is_refused(self, driving: Any) -> None:
        with pytest.raises(
            RequestRefused, match=r"candidate: checkout:live already serves version 6; name another version"
        ):
            driving(candidate={"version": "6"}).prepare()

    def test_publishing_what_serves_already_is_refused(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.point("live", "7")
        with pytest.raises(
            RequestRefused,
            match=r"already serves version 7; code and configuration have not changed since it was published: update",
        ):
            driving(candidate={"publish": {}}).prepare()

    def test_an_alias_of_the_latest_published_version_is_refused(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.point("live", "$LATEST.PUBLISHED")
        with pytest.raises(RequestRefused, match=r"points at \$LATEST\.PUBLISHED; point it at a published .* number"):
            driver.prepare()

    @pytest.mark.parametrize(
        ("configuration", "why"),
        [
            (
                {"Timeout": 901},
                "has a Timeout of 901 s, .* of at most 900 s; set Timeout to 900 or less, and publish",
            ),
            ({"DurableConfig": {"ExecutionTimeout": 3600}}, "has a DurableConfig, .*; move the alias yourself"),
        ],
    )
    @pytest.mark.parametrize(("version", "field"), [("6", "target.alias"), ("7", "candidate")])
    def test_functions_that_headgate_does_not_support_are_refused(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, version: str, field: str, configuration: Any, why: str
    ) -> None:
        checkout.versions[version] |= configuration
        with pytest.raises(RequestRefused, match=rf"^{field}: version {version} {why}"):
            driver.prepare()

    def test_new_code_of_an_unsupported_function_is_not_put_in_place(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.versions["6"] |= {"Timeout": 5400}
        with pytest.raises(RequestRefused, match="Timeout of 5400 s"):
            driving(candidate={"code": {"imageUri": "repository:42"}}).prepare()
        assert (checkout.code, len(checkout.versions)) == ("code-7", 7)

    @pytest.mark.parametrize(
        "configuration",
        [
            {"Timeout": 900},
            {"SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}},
            {"CapacityProviderConfig": {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": "a"}}},
            {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}},
        ],
        ids=str,
    )
    def test_functions_whose_traffic_an_alias_splits_are_prepared(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, configuration: Any
    ) -> None:
        for version in ("6", "7"):
            checkout.versions[version] |= configuration
        assert done(driver.prepare()).candidate == "7"

    @pytest.mark.parametrize(
        ("configuration", "why"),
        [
            ({"Role": ROLE}, f"versions 8 and 6 have different execution roles \\({ROLE} and arn:aws:iam"),
            ({"DeadLetterConfig": {"TargetArn": QUEUE}}, f"have different dead-letter queues \\({QUEUE} and none\\)"),
            ({"State": "Failed", "StateReason": "no such image"}, "failed to become active: no such image"),
            (
                {"State": "Failed", "StateReason": "no such image", "StateReasonCode": "ImageDeleted"},
                r"failed to become active: no such image \(ImageDeleted\)$",
            ),
            (
                {
                    "State": "Active",
                    "LastUpdateStatus": "Failed",
                    "LastUpdateStatusReason": "The security group does not exist",
                    "LastUpdateStatusReasonCode": "InvalidSecurityGroup",
                },
                r"update of version 8 failed .*: The security group does not exist \(InvalidSecurityGroup\)",
            ),
            (
                {"State": "Pending", "LastUpdateStatus": "Failed", "LastUpdateStatusReasonCode": "InternalError"},
                "update of version 8 failed .*: InternalError; update the function again",
            ),
            ({"State": "Failed"}, "failed to become active: Lambda gives no reason"),
            ({"State": "Inactive"}, r"version 8 is inactive, .*; invoke it once \(invoke --qualifier 8\), wait until"),
            ({"State": "Deactivated"}, "version 8 is Deactivated and does not accept requests"),
        ],
    )
    def test_a_version_that_lambda_cannot_split_to_is_refused(
        self, checkout: FakeLambda, driving: Any, configuration: dict[str, Any], why: str
    ) -> None:
        checkout.publish(**configuration)
        with pytest.raises(RequestRefused, match=why):
            driving(candidate={"version": "8"}).prepare()

    @pytest.mark.parametrize(
        "state",
        [
            {"State": "Pending"},
            {"State": "Active", "LastUpdateStatus": "InProgress"},
            {"State": "Failed", "LastUpdateStatus": "InProgress"},
        ],
        ids=str,
    )
    def test_a_version_that_is_pending_is_asked_for_again(
        self, checkout: FakeLambda, driving: Any, state: dict[str, str]
    ) -> None:
        version = checkout.publish(**state)
        waits = pending(driving(candidate={"version": version}).prepare())
        assert waits.why == "candidate: version 8 is still pending"
        checkout.versions[version] |= {"State": "Active", "LastUpdateStatus": "Successful"}
        assert done(driving(candidate={"version": version}).prepare()).candidate == version

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("InvalidParameterValueException", RequestRefused),
            ("AccessDeniedException", RequestRefused),
            ("InternalFailure", ClientError),
        ],
    )
    def test_publishing_may_be_impossible(
        self, checkout: FakeLambda, driving: Any, code: str, error: type[Exception]
    ) -> None:
        checkout.refuse_next = Refusal(code, "an update is in progress for resource")
        with pytest.raises(error, match="an update is in progress") as told:
            driving(candidate={"publish": {}}).prepare()
        assert error is ClientError or str(told.value).startswith("candidate: ")

    def test_publishing_may_have_to_wait_and_then_nothing_is_known_of_the_candidate(
        self, checkout: FakeLambda, driving: Any
    ) -> None:
        checkout.refuse_next = Refusal("ResourceConflictException", "an update is in progress for resource")
        waits = pending(driving(candidate={"publish": {}}).prepare())
        assert waits.state is None
        assert re.match(r"candidate: \$LATEST is being updated: .*an update is in progress", waits.why)

    def test_code_that_headgate_may_not_put_in_place_is_refused_with_the_fix(
        self, checkout: FakeLambda, driving: Any
    ) -> None:
        driver = driving(candidate={"code": {"s3Bucket": "code", "s3Key": "checkout.zip"}})
        intended = pending(driver.prepare()).state
        checkout.refuse_next = Refusal("AccessDeniedException", "Your access has been denied by S3")
        with pytest.raises(
            RequestRefused, match=r"^candidate: .* denied by S3; Headgate's parameters CodeObjects and Code"
        ):
            driver.prepare(intended)

    def test_a_version_that_it_published_is_used_again_when_it_had_to_wait(
        self, checkout: FakeLambda, driving: Any
    ) -> None:
        # GIVEN a version that Lambda has published and not made active yet
        driver = driving(candidate={"publish": {}})
        checkout.publish(State="Pending")
        waits = pending(driver.prepare())
        assert waits.why == "candidate: version 8 is still pending"
        # WHEN $LATEST moves on before it is asked for again, THEN nothing else is published
        checkout.versions["8"]["State"] = "Active"
        checkout.code = "newer"
        assert done(driver.prepare(waits.state)).candidate == "8"
        assert len(checkout.versions) == 8

    def test_nothing_is_published_once_the_lock_is_lost(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "new"
        with pytest.raises(LockLost):
            driving(lost, candidate={"publish": {}}).prepare()
        assert len(checkout.versions) == 7


class TestMoving:
    def test_a_rollout_shifts_shifts_again_and_promotes(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        state = done(driver.shift(prepared, 10))
        assert checkout.serves() == ("6", {"7": 0.1})
        assert (state.position, state.shifted_at > 0) == (Weight(10), True)
        state = done(driver.shift(state, 50))
        assert checkout.serves() == ("6", {"7": 0.5})
        assert done(driver.promote(state)).position == PROMOTED
        assert checkout.serves() == ("7", {})

    @pytest.mark.parametrize(("percent", "share"), [(0.1, 0.001), (33.3, 0.333), (99.9, 0.999), (7, 0.07), (100, 1.0)])
    def test_a_weight_is_sent_as_the_share_that_it_means(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState, percent: float, share: float
    ) -> None:
        done(driver.shift(prepared, percent))
        assert checkout.updates == [{"7": share}]

    def test_a_shift_that_is_tried_again_after_its_answer_was_lost_is_done_already(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        checkout.lose_answer = True
        with pytest.raises(driver._client.exceptions.ServiceException):
            driver.shift(prepared, 10)
        state = done(driver.shift(prepared, 10))
        assert len(checkout.updates) == 1
        assert done(driver.shift(state, 50)).position == Weight(50)

    @pytest.mark.parametrize("move", ["shift", "promote", "rollback"])
    def test_an_alias_that_somebody_else_moved_is_left_as_found(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState, move: str
    ) -> None:
        state = done(driver.shift(prepared, 10))
        checkout.point("live", "3", {"4": 0.5})
        with pytest.raises(
            TargetChanged, match=r"it serves version 3 and sends 50 % to version 4; Headgate leaves it unchanged"
        ):
            driver.shift(state, 50) if move == "shift" else getattr(driver, move)(state)
        assert checkout.serves() == ("3", {"4": 0.5})

    @pytest.mark.parametrize("move", ["shift", "promote", "rollback"])
    def test_nothing_moves_once_the_lock_is_lost(
        self, checkout: FakeLambda, driving: Any, prepared: AliasState, move: str
    ) -> None:
        driver = driving(lost)
        with pytest.raises(LockLost):
            driver.shift(prepared, 50) if move == "shift" else getattr(driver, move)(prepared)
        assert checkout.updates == []
        assert checkout.serves() == ("6", {})


class TestRollingBack:
    def test_it_points_at_the_stable_version_alone_and_again_changes_nothing(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        state = done(driver.shift(prepared, 10))
        assert done(driver.rollback(state)).position == Weight(0)
        assert done(driver.rollback(state)).position == Weight(0)
        assert checkout.serves() == ("6", {})
        assert checkout.updates == [{"7": 0.1}, {}]

    @pytest.mark.parametrize(
        ("position", "aim"),
        [
            (("6", {"7": 0.1}), Weight(10)),
            (("6", {"7": 0.5}), Weight(50)),
            (("6", {"7": 1.0}), Weight(100)),
            (("7", {}), PROMOTED),
            (("6", {}), Weight(10)),
            (("6", {}), Weight(0)),
            (("6", {}), None),
        ],
    )
    def test_it_works_from_wherever_this_rollout_could_have_put_the_alias(
        self, checkout: FakeLambda, driving: Any, prepared: AliasState, position: Any, aim: Position | None
    ) -> None:
        # GIVEN an alias that this rollout moved, but whose answer it never saw
        checkout.point("live", *position)
        # WHEN it rolls back with the state it had before
        state = done(driving(aim=aim).rollback(prepared))
        # THEN the alias is back, and the state fits it
        assert checkout.serves() == ("6", {})
        assert state.revision_id == checkout.aliases["live"]["RevisionId"]

    @pytest.mark.parametrize(
        ("position", "aim"),
        [
            (("6", {"7": 0.3}), Weight(10)),
            (("6", {"5": 0.1}), Weight(10)),
            (("5", {}), Weight(10)),
            (("5", {"7": 0.1}), Weight(10)),
            # Positions of the plan that it was never after: somebody else has put the alias there.
            (("6", {"7": 0.1}), None),
            (("6", {"7": 0.5}), Weight(10)),
            (("7", {}), Weight(50)),
            (("6", {"7": 1.0}), PROMOTED),
            (("7", {}), Weight(100)),
        ],
    )
    def test_it_leaves_every_other_position_as_found(
        self, checkout: FakeLambda, driving: Any, prepared: AliasState, position: Any, aim: Position | None
    ) -> None:
        checkout.point("live", *position)
        with pytest.raises(TargetChanged, match="lambda-alias/checkout/live was changed by somebody else"):
            driving(aim=aim).rollback(prepared)
        assert checkout.serves() == position

    def test_a_position_that_it_has_moved_on_from_is_not_its_own_any_more(
        self, checkout: FakeLambda, driving: Any, prepared: AliasState
    ) -> None:
        driver = driving(aim=Weight(50))
        state = done(driver.shift(done(driver.shift(prepared, 10)), 50))
        checkout.point("live", "6", {"7": 0.1})
        with pytest.raises(TargetChanged, match="sends 10 % to version 7"):
            driver.rollback(state)

    def test_it_does_not_overwrite_a_change_between_its_look_and_its_write(
        self, checkout: FakeLambda, driving: Any, prepared: AliasState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN an alias at the rollout's own weight that somebody moves right after the rollback looked at it
        driver = driving(aim=Weight(10))
        checkout.point("live", "6", {"7": 0.1})
        honest = driver._existing_alias

        def look() -> Any:
            found = dict(honest())
            checkout.point("live", "3")
            return found

        monkeypatch.setattr(driver, "_existing_alias", look)
        # WHEN it rolls back, THEN Lambda refuses the write, and the machine asks again
        assert driver.rollback(prepared) == Pending(None, "lambda-alias/checkout/live was changed during this call")
        assert checkout.serves() == ("3", {})
        # AND the next try sees what has happened
        monkeypatch.undo()
        with pytest.raises(TargetChanged, match="it serves version 3"):
            driver.rollback(prepared)


class TestWhatIsGone:
    """Lambda answers alike whether the alias or one of its versions does not exist."""

    @pytest.mark.parametrize("move", ["shift", "promote"])
    def test_a_candidate_that_was_deleted_is_told_and_the_alias_can_be_rolled_back(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState, move: str
    ) -> None:
        del checkout.versions["7"]
        with pytest.raises(CandidateGone, match=r"^candidate version 7 is gone: it was deleted from checkout"):
            driver.shift(prepared, 10) if move == "shift" else driver.promote(prepared)
        assert done(driver.rollback(prepared)).position == Weight(0)
        assert checkout.serves() == ("6", {})

    def test_a_candidate_is_missed_too_where_the_alias_has_another_revision_id(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        checkout.point("live", "6")
        del checkout.versions["7"]
        with pytest.raises(CandidateGone):
            driver.shift(prepared, 10)

    def test_a_stable_version_that_was_deleted_after_the_promotion_leaves_the_candidate_serving(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        state = done(driver.promote(prepared))
        del checkout.versions["6"]
        with pytest.raises(
            TargetChanged,
            match=r"live was changed by somebody else: stable version 6 is gone, and it serves version 7; Headgate",
        ):
            driver.rollback(state)
        assert checkout.serves() == ("7", {})

    @pytest.mark.parametrize("move", ["shift", "promote", "rollback"])
    def test_an_alias_that_was_deleted_is_told_as_that(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState, move: str
    ) -> None:
        del checkout.aliases["live"]
        with pytest.raises(TargetChanged, match=r"changed by somebody else: it was deleted$"):
            driver.shift(prepared, 10) if move == "shift" else getattr(driver, move)(prepared)

    def test_an_alias_that_is_deleted_between_two_calls_of_a_move_is_told_as_that(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            del checkout.aliases["live"]
            raise Refusal("PreconditionFailedException", "The RevisionId provided does not match the latest one")

        monkeypatch.setattr(checkout, "UpdateAlias", refuse)
        with pytest.raises(TargetChanged, match="it was deleted"):
            driver.shift(prepared, 10)

    def test_what_is_missing_for_a_moment_only_is_asked_for_again(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal("ResourceNotFoundException", "Function not found: checkout:7")

        with monkeypatch.context() as patch:
            patch.setattr(checkout, "UpdateAlias", refuse)
            waits = pending(driver.shift(prepared, 10))
        assert waits == Pending(None, "lambda-alias/checkout/live: Function not found: checkout:7")
        assert done(driver.shift(prepared, 10)).position == Weight(10)


class TestWhatIsNoMove:
    """A change of the alias that moves no traffic, as of its description, gives it another RevisionId all the same."""

    def touch(self, checkout: FakeLambda) -> None:
        checkout.point("live", *checkout.serves())

    def test_it_does_not_stop_a_rollout(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        self.touch(checkout)
        state = done(driver.shift(prepared, 10))
        for percent in (20, 50):
            self.touch(checkout)
            state = done(driver.shift(state, percent))
            assert checkout.serves() == ("6", {"7": percent / 100})
        self.touch(checkout)
        state = done(driver.promote(state))
        assert checkout.serves() == ("7", {})
        self.touch(checkout)
        assert done(driver.rollback(state)).revision_id == checkout.aliases["live"]["RevisionId"]
        assert checkout.serves() == ("6", {})


GIVEN = AliasState(stable="6", candidate="7", revision_id="any", provisioned=5)
"""What the driver knows once it has given the candidate five."""


class TestProvisionedConcurrency:
    def test_an_alias_that_holds_it_is_refused_with_the_way_out(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.provision("live", 5)
        with pytest.raises(RequestRefused, match=r"checkout:live has provisioned .* configure it on version 6 instead"):
            driver.prepare()

    def test_without_any_nothing_is_asked_for(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        assert (prepared.provisioned, checkout.provisioned) == (0, {})
        done(driver.release(done(driver.promote(done(driver.shift(prepared, 10))))))
        done(driver.rollback(prepared.model_copy(update={"revision_id": checkout.aliases["live"]["RevisionId"]})))
        assert checkout.provisioned == {}

    def test_the_candidate_gets_what_the_stable_version_holds_before_any_traffic(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        # GIVEN a stable version that holds five
        checkout.provision("6", 5)
        # WHEN the rollout is prepared, THEN it says what it is about to ask for, so that this is on record
        known, why, _ = pending(driver.prepare())
        assert why == "candidate: provisioned concurrency of version 7 will be set to 5"
        assert "7" not in checkout.provisioned
        assert known is not None
        assert (known.candidate, known.provisioned) == ("7", 5)
        # AND asks for five and waits for them
        asked = Pending(known, "candidate: provisioned concurrency of version 7 was requested: 5")
        assert driver.prepare(known) == asked
        assert checkout.provisioned["7"]["RequestedProvisionedConcurrentExecutions"] == 5
        allocating = Pending(known, "candidate: provisioned concurrency of version 7 is being allocated")
        assert driver.prepare(known) == allocating
        checkout.provision("7", 5)
        assert done(driver.prepare(known)).provisioned == 5
        assert checkout.updates == []

    @pytest.mark.parametrize(("held", "asked"), [(3, True), (5, False), (8, False)])
    def test_what_the_candidate_holds_already_is_raised_and_never_lowered(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, held: int, asked: bool
    ) -> None:
        checkout.provision("6", 5)
        checkout.provision("7", held)
        if asked:
            for said in ("will be set to 5", "was requested: 5"):
                waits = pending(driver.prepare(GIVEN if said.startswith("was") else None))
                assert waits.why.endswith(said)
        else:
            assert done(driver.prepare()).provisioned == 0  # It is the owner's, and nothing to give back.
        assert checkout.provisioned["7"]["RequestedProvisionedConcurrentExecutions"] == max(held, 5)

    def test_what_cannot_be_allocated_refuses_the_rollout_and_is_given_back(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.provision("6", 5)
        checkout.provision("7", 5, "FAILED")
        checkout.provisioned["7"]["StatusReason"] = "no capacity"
        with pytest.raises(RequestRefused, match="version 7 could not be allocated: no capacity"):
            driver.prepare()
        assert sorted(checkout.provisioned) == ["6", "7"]  # It is the owner's.
        with pytest.raises(RequestRefused, match="version 7 could not be allocated: no capacity"):
            driver.prepare(GIVEN)
        assert list(checkout.provisioned) == ["6"]

    def test_more_than_there_is_refuses_the_rollout(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal("InvalidParameterValueException", "should not be greater than the reserved concurrency")

        checkout.provision("6", 5)
        monkeypatch.setattr(checkout, "PutProvisionedConcurrencyConfig", refuse)
        with pytest.raises(
            RequestRefused,
            match=r"candidate: .*concurrency of version 7 cannot be 5 like that of version 6: .* reserved concurrency",
        ):
            driver.prepare(GIVEN)

    @pytest.mark.parametrize("code", ["ProvisionedConcurrencyConfigNotFoundException", "ResourceNotFoundException"])
    def test_a_rollback_is_done_where_the_candidate_holds_none_any_more(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, code: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal(code, "No Provisioned Concurrency Config found for this function")

        checkout.provision("6", 5)
        checkout.provision("7", 5)
        state = done(driver.shift(done(driver.prepare(GIVEN)), 10))
        monkeypatch.setattr(checkout, "DeleteProvisionedConcurrencyConfig", refuse)
        assert done(driver.rollback(state)).provisioned == 0
        assert checkout.serves() == ("6", {})

    def test_the_replaced_version_gives_it_back_after_a_promotion(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        state = done(driver.promote(done(driver.prepare(GIVEN))))
        assert sorted(checkout.provisioned) == ["6", "7"]
        assert done(driver.release(state)) == state
        assert list(checkout.provisioned) == ["7"]

    def test_the_candidate_gives_it_back_after_a_rollback_that_has_moved_the_traffic(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        state = done(driver.shift(done(driver.prepare(GIVEN)), 10))
        assert done(driver.rollback(state)).provisioned == 0
        assert list(checkout.provisioned) == ["6"]
        assert checkout.serves() == ("6", {})

    def test_it_stays_where_the_rollback_finds_the_alias_changed(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        state = done(driver.shift(done(driver.prepare(GIVEN)), 10))
        checkout.point("live", "7")
        with pytest.raises(TargetChanged):
            driver.rollback(state)
        assert sorted(checkout.provisioned) == ["6", "7"]

    def test_what_the_candidate_held_before_the_rollout_stays_after_a_rollback(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.provision("6", 3)
        checkout.provision("7", 5)
        done(driver.rollback(done(driver.shift(done(driver.prepare()), 10))))
        assert sorted(checkout.provisioned) == ["6", "7"]

    def test_nothing_is_released_once_the_lock_is_lost(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        state = done(driving().prepare(GIVEN))
        checkout.point("live", "6")  # Its successor may have moved the alias: that is nobody else's change.
        with pytest.raises(LockLost):
            driving(lost).release(state)
        assert sorted(checkout.provisioned) == ["6", "7"]


class TestScalingMeanwhile:
    """Provisioned concurrency that somebody else, or Application Auto Scaling, changes during the rollout."""

    @pytest.fixture
    def halfway(self, checkout: FakeLambda, driver: LambdaAliasDriver) -> AliasState:
        """Both versions hold five, and the alias splits."""
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        return done(driver.shift(done(driver.prepare(GIVEN)), 50))

    def test_a_candidate_is_promoted_with_what_the_stable_version_holds_by_then(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, halfway: AliasState
    ) -> None:
        # GIVEN a stable version that is scaled from 5 to 50 after Prepare
        checkout.provision("6", 50)
        # WHEN the candidate is to be promoted, THEN it gets 50 before it gets all traffic
        known, why, _ = pending(driver.promote(halfway))
        assert (why, known and known.provisioned) == (
            "candidate: provisioned concurrency of version 7 will be set to 50",
            50,
        )
        assert known is not None
        assert pending(driver.promote(known)).why.endswith("was requested: 50")
        assert pending(driver.promote(known)).why.endswith("is being allocated")
        assert checkout.serves() == ("6", {"7": 0.5})
        checkout.provision("7", 50)
        state = done(driver.promote(known))
        assert (checkout.serves(), state.to_release) == (("7", {}), True)
        # AND a promotion that is turned round gives back 50
        state = done(driver.release(state))
        assert list(checkout.provisioned) == ["7"]
        done(driver.rollback(state))
        assert list(checkout.provisioned) == ["6"]
        assert checkout.provisioned["6"]["RequestedProvisionedConcurrentExecutions"] == 50

    def test_a_stable_version_that_has_it_only_since_prepare_is_matched_too(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        checkout.provision("6", 5)
        known = pending(driver.promote(prepared)).state
        assert known is not None
        checkout.provision("7", 5)
        state = done(driver.promote(known))
        assert (state.provisioned, state.to_release) == (5, True)

    @pytest.mark.parametrize("held", [3, 0])
    def test_a_stable_version_that_was_scaled_down_takes_nothing_from_the_candidate(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, halfway: AliasState, held: int
    ) -> None:
        checkout.provision("6", held) if held else checkout.provisioned.pop("6")
        state = done(driver.promote(halfway))
        assert checkout.provisioned["7"]["RequestedProvisionedConcurrentExecutions"] == 5
        # AND a promotion that is turned round restores what it last had
        done(driver.rollback(done(driver.release(state))))
        assert checkout.provisioned["6"]["RequestedProvisionedConcurrentExecutions"] == (held or 5)

    def test_what_is_scaled_between_promotion_and_release_is_recorded_before_it_is_removed(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, halfway: AliasState
    ) -> None:
        state = done(driver.promote(halfway))
        checkout.provision("6", 50)
        known, why, _ = pending(driver.release(state))
        assert why == "target: provisioned concurrency of version 6, 50, will be removed"
        assert sorted(checkout.provisioned) == ["6", "7"]
        assert known is not None
        done(driver.rollback(done(driver.release(known))))
        assert checkout.provisioned["6"]["RequestedProvisionedConcurrentExecutions"] == 50

    @pytest.mark.parametrize("code", ["InvalidParameterValueException", "ResourceConflictException"])
    def test_a_candidate_that_cannot_have_as_much_is_not_promoted_and_keeps_what_it_has_while_it_serves(
        self,
        checkout: FakeLambda,
        driver: LambdaAliasDriver,
        halfway: AliasState,
        monkeypatch: pytest.MonkeyPatch,
        code: str,
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal(code, "greater than the reserved concurrency")

        checkout.provision("6", 50)
        known = pending(driver.promote(halfway)).state
        assert known is not None
        monkeypatch.setattr(checkout, "PutProvisionedConcurrencyConfig", refuse)
        with pytest.raises(RequestRefused, match=r"version 7 cannot be 50 like that of version 6: .*reserved concurre"):
            driver.promote(known)
        assert checkout.serves() == ("6", {"7": 0.5})
        assert sorted(checkout.provisioned) == ["6", "7"]
        done(driver.rollback(known))
        assert (checkout.serves(), list(checkout.provisioned)) == (("6", {}), ["6"])

    def test_an_alias_that_somebody_else_moved_gets_no_more(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, halfway: AliasState
    ) -> None:
        checkout.provision("6", 50)
        known = pending(driver.promote(halfway)).state
        assert known is not None
        checkout.point("live", "3")
        with pytest.raises(TargetChanged, match="it serves version 3"):
            driver.promote(known)
        assert checkout.provisioned["7"]["RequestedProvisionedConcurrentExecutions"] == 5

    def test_what_the_candidate_had_of_its_own_is_restored_by_a_rollback(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        # GIVEN a candidate that the owner gave three, and the rollout five
        checkout.provision("6", 5)
        checkout.provision("7", 3)
        known = pending(driver.prepare()).state
        assert known is not None
        assert pending(driver.prepare(known)).why.endswith("was requested: 5")
        checkout.provision("7", 5)
        state = done(driver.prepare(known))
        # WHEN it is raised once more for the promotion, and rolled back, THEN it has three again
        checkout.provision("6", 50)
        raised = pending(driver.promote(state)).state
        assert raised is not None
        for _ in range(2):
            assert done(driver.rollback(raised)).candidate_provisioned is None
            assert checkout.provisioned["7"]["RequestedProvisionedConcurrentExecutions"] == 3

    def test_a_rollback_right_after_the_intent_leaves_the_candidate_what_it_had(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        checkout.provision("6", 5)
        checkout.provision("7", 3)
        known = pending(driver.prepare()).state
        assert known is not None
        done(driver.rollback(known))
        assert checkout.provisioned["7"] == {"RequestedProvisionedConcurrentExecutions": 3, "Status": "READY"}

    def test_a_candidate_that_is_deleted_meanwhile_is_told(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState
    ) -> None:
        checkout.provision("6", 5)
        known = pending(driver.promote(prepared)).state
        assert known is not None
        del checkout.versions["7"]
        with pytest.raises(CandidateGone):
            driver.promote(known)


class TestScalableTargets:
    """Versions whose provisioned concurrency Application Auto Scaling changes."""

    def test_they_are_told_on_record_with_what_is_left_to_do(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, scaling: FakeScaling
    ) -> None:
        scaling.ranges["function:checkout:6"] = (5, 100)
        for version in ("6", "7"):
            checkout.provision(version, 5)
        state = done(driver.prepare())
        (warning,) = state.warnings or []
        assert "keeps the provisioned concurrency of version 6 of checkout between 5 and 100" in warning
        assert "register-scalable-target" in warning
        # AND they are asked for once, with what Application Auto Scaling takes
        done(driver.promote(state))
        assert len(scaling.asked) == 1
        client = boto3.client("application-autoscaling")
        shape = client.meta.service_model.operation_model("DescribeScalableTargets").input_shape
        assert not ParamValidator().validate(scaling.asked[0], shape).has_errors()
        assert scaling.asked[0]["ResourceIds"] == ["function:checkout:6", "function:checkout:7"]

    def test_a_function_that_its_arn_names_is_found_by_its_name(
        self, checkout: FakeLambda, driving: Any, scaling: FakeScaling
    ) -> None:
        arn = "arn:aws:lambda:eu-central-1:123456789012:function:checkout"
        for version in ("6", "7"):
            checkout.provision(version, 5)
        done(driving(target=TARGET | {"function": arn}).prepare())
        assert scaling.asked[0]["ResourceIds"] == ["function:checkout:6", "function:checkout:7"]

    @pytest.mark.parametrize("provisioned", [True, False])
    def test_they_are_looked_up_only_where_there_is_provisioned_concurrency_and_never_stop_a_rollout(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, scaling: FakeScaling, *, provisioned: bool
    ) -> None:
        scaling.failure = ConnectTimeoutError(endpoint_url="https://application-autoscaling")
        for version in ("6", "7") * provisioned:
            checkout.provision(version, 5)
        state = done(driver.prepare())
        assert state.warnings == ([] if provisioned else None)
        assert len(scaling.asked) == provisioned


class TestReleasing:
    """After the promotion: the last look at the alias before the rollout counts as succeeded."""

    @pytest.fixture
    def promoted(self, checkout: FakeLambda, driver: LambdaAliasDriver) -> AliasState:
        """Both versions hold five, and the alias serves the candidate alone."""
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        return done(driver.promote(done(driver.prepare(GIVEN))))

    @pytest.mark.parametrize("position", [("3", {}), ("6", {}), ("6", {"7": 1.0}), ("7", {"6": 0.1})])
    def test_an_alias_that_somebody_else_has_moved_since_is_told_and_left_with_everything(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, promoted: AliasState, position: Any
    ) -> None:
        checkout.point("live", *position)
        with pytest.raises(TargetChanged, match=rf"changed by somebody else: it serves version {position[0]}"):
            driver.release(promoted)
        assert checkout.serves() == position
        assert sorted(checkout.provisioned) == ["6", "7"]

    def test_an_alias_that_is_gone_is_told(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, promoted: AliasState
    ) -> None:
        del checkout.aliases["live"]
        with pytest.raises(TargetChanged, match="changed by somebody else: it was deleted"):
            driver.release(promoted)

    def test_a_change_that_moves_no_traffic_and_a_second_call_are_none(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, promoted: AliasState
    ) -> None:
        checkout.point("live", "7")
        assert [done(driver.release(promoted)), done(driver.release(promoted))] == [promoted] * 2
        assert list(checkout.provisioned) == ["7"]

    def test_a_rollback_after_it_gives_the_stable_version_its_own_back(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, promoted: AliasState
    ) -> None:
        # GIVEN a release, whether or not its answer came
        done(driver.release(promoted))
        # WHEN it is rolled back, and again because that answer was lost
        for _ in range(2):
            assert done(driver.rollback(promoted)).provisioned == 0
            # THEN the stable version serves with what it had, and the candidate holds nothing
            assert (checkout.serves(), list(checkout.provisioned)) == (("6", {}), ["6"])
            assert checkout.provisioned["6"]["RequestedProvisionedConcurrentExecutions"] == 5
            checkout.provision("6", 5)

    def test_a_rollback_that_finds_the_alias_changed_gives_nothing_back(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, promoted: AliasState
    ) -> None:
        done(driver.release(promoted))
        checkout.point("live", "3")
        with pytest.raises(TargetChanged):
            driver.rollback(promoted)
        assert list(checkout.provisioned) == ["7"]

    def test_what_the_stable_version_holds_by_then_is_left_alone(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, promoted: AliasState
    ) -> None:
        done(driver.release(promoted))
        checkout.provision("6", 8)
        done(driver.rollback(promoted))
        assert checkout.provisioned["6"] == {"RequestedProvisionedConcurrentExecutions": 8, "Status": "READY"}

    @pytest.mark.parametrize(
        ("weight", "aim", "restored"), [(10, PROMOTED, True), (10, Weight(10), False), (0, None, False)]
    )
    def test_only_what_may_have_been_promoted_was_released(
        self, checkout: FakeLambda, driving: Any, weight: float, aim: Position | None, restored: bool
    ) -> None:
        # GIVEN a stable version whose provisioned concurrency has gone during the rollout
        checkout.provision("7", 5)
        state = done(driving().shift(done(driving().prepare(GIVEN)), weight)).model_copy(update={"provisioned": 5})
        # WHEN it is rolled back THEN it was this rollout's doing only from the promotion on
        done(driving(aim=aim).rollback(state))
        assert list(checkout.provisioned) == ["6"] * restored

    @pytest.mark.parametrize("room", [5, 0])
    def test_where_there_is_no_room_for_both_the_candidate_makes_it(
        self,
        checkout: FakeLambda,
        driver: LambdaAliasDriver,
        promoted: AliasState,
        monkeypatch: pytest.MonkeyPatch,
        room: int,
    ) -> None:
        # GIVEN an account whose concurrency is used up by others, but for what the candidate holds, or altogether
        done(driver.release(promoted))
        put = checkout.PutProvisionedConcurrencyConfig

        def limited(**given: Any) -> Any:
            if "7" in checkout.provisioned or given["ProvisionedConcurrentExecutions"] > room:
                raise Refusal(
                    "InvalidParameterValueException", "decreases the unreserved concurrency below its minimum"
                )
            return put(**given)

        monkeypatch.setattr(checkout, "PutProvisionedConcurrencyConfig", limited)
        # WHEN it is rolled back THEN the rollback stands, and what fits is given back
        assert done(driver.rollback(promoted)).position == Weight(0)
        assert (checkout.serves(), list(checkout.provisioned)) == (("6", {}), ["6"] if room else [])


@pytest.mark.parametrize(
    ("position", "where"),
    [
        (Weight(0), ("6", {})),
        (Weight(10), ("6", {"7": 0.1})),
        (Weight(100), ("6", {"7": 1.0})),
        (PROMOTED, ("7", {})),
    ],
)
def test_a_step_of_everything_is_not_the_promotion(
    checkout: FakeLambda, driver: LambdaAliasDriver, prepared: AliasState, position: Position, where: Any
) -> None:
    shift = driver.shift(prepared, position.percent) if isinstance(position, Weight) else driver.promote(prepared)
    state = done(shift)
    assert (state.position, checkout.serves()) == (position, where)
    # AND on record it is the number that it always was.
    assert state.to_wire()["weight"] == (position.percent if isinstance(position, Weight) else -1)
    assert AliasState.model_validate(state.to_wire()) == state


def test_describing_tells_the_alias_as_it_is(checkout: FakeLambda, driver: LambdaAliasDriver) -> None:
    checkout.point("live", "6", {"7": 0.1})
    revision = checkout.aliases["live"]["RevisionId"]
    assert driver.describe() == {"version": "6", "weights": {"7": 0.1}, "revisionId": revision}
