"""The code in $LATEST: what may be published, and what is left there by a candidate that was not promoted."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headgate.errors import LockLost, RequestRefused, TargetChanged
from headgate.rollouts.record import RejectedCode
from headgate.spec.position import PROMOTED
from headgate.targets import latest_code
from headgate.targets.lambda_alias import AliasState, LambdaAliasDriver
from headgate.targets.progress import Done, Pending
from headgate.targets.scaling_targets import ScalingTargets
from tests.builders import done, finished, pending, plan_of
from tests.fakes.consumers import QUEUE, Consumer
from tests.fakes.scaling import FakeScaling
from tests.fakes.services import Refusal, sha256_of
from tests.fakes.sqs import arn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.spec.position import Position
    from headgate.targets.event_source.state import SourceState
    from tests.fakes.services import FakeLambda

NEW_CODE = {"code": {"s3Bucket": "releases", "s3Key": "checkout.zip"}}
NEW = '{"S3Bucket": "releases", "S3Key": "checkout.zip"}'
"""What $LATEST of the fake holds after that."""


@pytest.fixture
def driving(lambda_client: Any) -> Callable[..., LambdaAliasDriver]:
    """Makes a driver of a rollout of new code, unless its fields differ."""

    def make(
        still_ours: Callable[[], None] = lambda: None,
        aim: Position | None = None,
        rejected: RejectedCode | None = None,
        **fields: Any,
    ) -> LambdaAliasDriver:
        plan = plan_of(**{"candidate": NEW_CODE} | fields)
        scaling = ScalingTargets(FakeScaling())
        return LambdaAliasDriver(lambda_client, scaling, plan, still_ours, aim, rejected={"checkout": rejected}.get)

    return make


@pytest.fixture
def driver(driving: Callable[..., LambdaAliasDriver], checkout: FakeLambda) -> LambdaAliasDriver:
    """The driver of new code; $LATEST holds the code of the stable version, as after its deployment."""
    checkout.code = "code-6"
    return driving()


@pytest.fixture
def rejected(driver: LambdaAliasDriver) -> AliasState:
    """The state after a rollout of new code was rolled back."""
    return done(driver.rollback(finished(driver.prepare)))


def end(driver: LambdaAliasDriver, state: AliasState) -> AliasState:
    """Roll back and restore, as the machine does."""
    state = done(driver.rollback(state))
    return finished(driver.restore, state) if state.to_release else state  # type: ignore[arg-type]


class TestGivingBack:
    def test_latest_gets_the_code_of_the_stable_version_back_after_a_rollback(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState
    ) -> None:
        assert (checkout.code, rejected.to_release) == (NEW, True)
        state = end(driver, rejected)
        assert checkout.code == "code-6"
        assert (state.latest, state.to_release) == (None, False)
        assert checkout.serves() == ("6", {})

    def test_nothing_is_given_back_after_a_promotion(self, checkout: FakeLambda, driver: LambdaAliasDriver) -> None:
        state = done(driver.promote(finished(driver.prepare)))
        assert not state.to_release
        assert checkout.code == NEW

    def test_a_promotion_that_is_reversed_gives_it_back(
        self, checkout: FakeLambda, driving: Any, driver: LambdaAliasDriver
    ) -> None:
        promoted = done(driver.promote(finished(driver.prepare)))
        end(driving(aim=PROMOTED), promoted)
        assert checkout.code == "code-6"

    def test_a_candidate_that_is_refused_after_its_code_was_put_there_gives_it_back(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        # GIVEN code that was published as a version that cannot become active
        published = pending(driver.prepare(pending(driver.prepare()).state)).state
        assert published is not None
        checkout.versions["8"] |= {"State": "Failed", "StateReason": "no such handler"}
        with pytest.raises(RequestRefused, match="no such handler"):
            driver.prepare(published)
        # WHEN the machine rolls back with the recorded state
        end(driver, published)
        assert checkout.code == "code-6"

    def test_an_intent_that_was_not_carried_out_leaves_everything_as_it_is(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        intent = pending(driver.prepare()).state
        assert intent is not None
        state = end(driver, intent)
        assert (checkout.code, checkout.code_updates, checkout.updates) == ("code-6", [], [])
        assert (state.latest, state.to_release) == (None, False)

    def test_a_lost_response_of_the_first_update_does_not_make_the_new_code_the_one_before(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        # GIVEN an update that took effect although its response was lost
        intent = pending(driver.prepare()).state
        driver.prepare(intent)
        # WHEN Prepare is called again with the recorded intent
        end(driver, finished(driver.prepare, intent))
        assert checkout.code == "code-6"

    def test_code_that_may_be_ours_is_reported_if_the_response_was_lost_and_nobody_asked_again(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        intent = pending(driver.prepare()).state
        assert intent is not None
        driver.prepare(intent)
        state = end(driver, intent)
        assert checkout.code == NEW
        assert state.latest is not None
        assert (state.latest.code_sha256, state.to_release) == (sha256_of(NEW), False)
        assert "response to its update was lost" in (state.latest.kept or "")

    def test_it_can_be_repeated_after_a_lost_response(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState
    ) -> None:
        pending(driver.restore(rejected))
        updates = len(checkout.code_updates)
        assert done(driver.restore(rejected)).latest is None
        assert (checkout.code, len(checkout.code_updates)) == ("code-6", updates)

    def test_it_waits_until_the_update_is_complete(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState
    ) -> None:
        begun = pending(driver.restore(rejected)).state
        assert begun is not None
        checkout.update_status = "InProgress"
        assert pending(driver.restore(begun)).why == "checkout: $LATEST is being updated"
        checkout.update_status = "Successful"
        assert done(driver.restore(begun)).latest is None

    def test_code_that_somebody_else_has_put_there_since_stays(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState
    ) -> None:
        checkout.code = "hotfix"
        assert done(driver.restore(rejected)).latest is None
        assert checkout.code == "hotfix"

    def test_code_that_somebody_else_puts_there_at_the_same_time_stays(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState
    ) -> None:
        def change(operation: str, when: str) -> None:
            if (operation, when) == ("UpdateFunctionCode", "before"):
                checkout.code = "hotfix"

        checkout.interrupt = change
        begun = pending(driver.restore(rejected)).state
        assert begun is not None
        assert done(driver.restore(begun)).latest is None
        assert checkout.code == "hotfix"

    def test_nothing_is_written_once_the_lock_is_lost(
        self, checkout: FakeLambda, driving: Any, rejected: AliasState
    ) -> None:
        def lost() -> None:
            raise LockLost("the lock is free")

        with pytest.raises(LockLost):
            driving(lost).restore(rejected)
        assert checkout.code == NEW

    def test_an_image_is_given_back_by_its_digest_with_its_architecture(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState
    ) -> None:
        checkout.versions["6"] |= {"PackageType": "Image", "Architectures": ["arm64"]}
        end(driver, rejected)
        assert checkout.code_updates[-1] == {"ImageUri": "repository@sha256:code-6", "Architectures": ["arm64"]}

    def test_a_package_in_the_owners_bucket_and_its_key_stay_as_they_were(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = {"S3Bucket": "releases", "S3Key": "stable.zip", "S3ObjectVersion": "3"}
        code = {"ResolvedS3Object": own, "SourceKMSKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1"}
        stores_version_6(checkout, monkeypatch, code)
        pending(driver.restore(rejected))
        given = {key: value for key, value in checkout.code_updates[-1].items() if key != "Architectures"}
        assert given == {**own, "SourceKMSKeyArn": code["SourceKMSKeyArn"], "S3ObjectStorageMode": "REFERENCE"}


def stores_version_6(checkout: FakeLambda, monkeypatch: pytest.MonkeyPatch, code: dict[str, Any]) -> None:
    """Let GetFunction say this about the package of version 6."""
    get_function = checkout.GetFunction

    def answer(FunctionName: str, Qualifier: str = "") -> dict[str, Any]:  # noqa: N803 - as Lambda spells it
        found = get_function(FunctionName, Qualifier)
        return found | {"Code": code} if Qualifier == "6" else found

    monkeypatch.setattr(checkout, "GetFunction", answer)


class TestWhatCannotBeGivenBack:
    """The rollout ends as it would without it, and its state says why the code stays."""

    def kept(self, driver: LambdaAliasDriver, state: AliasState) -> str:
        ended = end(driver, state)
        assert ended.latest is not None
        assert (ended.latest.code_sha256, ended.to_release) == (sha256_of(NEW), False)
        # A repeated call changes nothing.
        assert done(driver.restore(ended)) == ended
        return ended.latest.kept or ""

    def test_other_code_than_the_stable_versions_was_there_before(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "never published"
        driver = driving()
        why = self.kept(driver, finished(driver.prepare))
        before = sha256_of("never published")
        assert why == f"before the rollout $LATEST had other code than stable version 6, with the CodeSha256 {before}"
        assert checkout.code == NEW

    def test_somebody_changed_it_between_the_intent_and_the_update(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        intent = pending(driver.prepare()).state
        checkout.code = "hotfix"
        state = finished(driver.prepare, intent)
        assert sha256_of("hotfix") in self.kept(driver, state)

    def test_the_package_is_too_large_to_be_uploaded(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState
    ) -> None:
        checkout.versions["6"]["CodeSize"] = 50_000_001
        assert "has 50000001 bytes, and Lambda accepts uploads of at most 50000000" in self.kept(driver, rejected)

    @pytest.mark.parametrize("operation", ["GetFunction", "UpdateFunctionCode"])
    def test_headgate_may_not(
        self,
        checkout: FakeLambda,
        driver: LambdaAliasDriver,
        rejected: AliasState,
        monkeypatch: pytest.MonkeyPatch,
        operation: str,
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal("AccessDeniedException", f"not authorized to perform: lambda:{operation}")

        monkeypatch.setattr(checkout, operation, refuse)
        assert f"lambda:{operation} (Headgate's parameters CodeObjects and" in self.kept(driver, rejected)

    def test_lambda_does_not_accept_its_signature(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal("CodeVerificationFailedException", "the signature has expired")

        monkeypatch.setattr(checkout, "UpdateFunctionCode", refuse)
        assert "cannot be given back: the signature has expired" in self.kept(driver, rejected)

    def test_lambda_gives_no_link(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = {"Error": {"ErrorCode": "AccessDenied", "Message": "the object is gone"}}
        stores_version_6(checkout, monkeypatch, code)
        assert "version 6 cannot be read: the object is gone" in self.kept(driver, rejected)

    @pytest.mark.parametrize(
        ("link", "why"),
        [
            ("file:///does-not-exist", "could not be downloaded"),
            ("data:application/zip;base64,YnJva2Vu", "the download is not the package of stable version 6"),
        ],
    )
    def test_the_download_keeps_failing(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState, link: str, why: str
    ) -> None:
        checkout.link = lambda _: link
        waits = pending(driver.restore(rejected))
        assert why in waits.why
        # AND it is not tried for ever.
        assert waits.state is not None
        assert waits.state.latest is not None
        late = waits.state.model_copy(update={"latest": waits.state.latest.model_copy(update={"since": 1})})
        kept = self.kept(driver, late)
        assert kept.startswith("this could not be done in 300 s: ")
        assert why in kept

    @pytest.mark.parametrize("code", ["ResourceConflictException", "TooManyRequestsException"])
    def test_a_failure_that_passes_is_tried_again(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState, code: str
    ) -> None:
        checkout.refuse_next = None
        failures = [Refusal(code, "not now")]

        def fail(operation: str, when: str) -> None:
            if operation == "UpdateFunctionCode" and when == "before" and failures:
                raise failures.pop()

        checkout.interrupt = fail
        assert "not now" in pending(driver.restore(rejected)).why
        assert end(driver, rejected).latest is None
        assert checkout.code == "code-6"

    def test_a_function_that_is_gone_has_no_code(
        self, checkout: FakeLambda, driver: LambdaAliasDriver, rejected: AliasState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise Refusal("ResourceNotFoundException", "Function not found")

        monkeypatch.setattr(checkout, "GetFunction", refuse)
        assert done(driver.restore(rejected)).latest is None

    def test_a_candidate_with_the_stable_versions_code_leaves_nothing_behind(
        self, checkout: FakeLambda, driving: Any
    ) -> None:
        checkout.point("live", checkout.publish(CodeSha256=sha256_of(NEW)))
        checkout.publish()
        driver = driving()
        assert end(driver, finished(driver.prepare)).latest is None


def test_a_download_reads_no_more_than_lambda_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size
            assert size > 0
            return b"x" * size

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Endless())
    monkeypatch.setattr(latest_code, "MAX_ZIP_BYTES", 10)
    assert len(latest_code._download("https://there")) == 11


class TestPublishing:
    """A plain publish publishes what $LATEST holds, unless that is rejected code or not what the request confirms."""

    NOTE = RejectedCode(sha256_of("bad"), "checkout-41")

    def test_rejected_code_is_refused_before_anything_is_touched(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "bad"
        with pytest.raises(RequestRefused) as refusal:
            driving(rejected=self.NOTE, candidate={"publish": {}}).prepare()
        code = sha256_of("bad")
        assert str(refusal.value) == (
            f"candidate.publish: $LATEST of checkout holds the code that rollout checkout-41 rejected, with the "
            f"CodeSha256 {code}; update the function's code first, or give candidate.code; to publish the rejected "
            f'code nevertheless, give {{"publish": {{"confirm": "{code}"}}}}'
        )
        assert len(checkout.versions) == 7

    def test_it_is_published_once_it_is_confirmed(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "bad"
        driver = driving(rejected=self.NOTE, candidate={"publish": {"confirm": sha256_of("bad")}})
        assert done(driver.prepare()).candidate == "8"

    def test_other_code_is_published_as_before(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "fixed"
        assert done(driving(rejected=self.NOTE, candidate={"publish": {}}).prepare()).candidate == "8"

    def test_code_that_serves_meanwhile_is_not_rejected(self, checkout: FakeLambda, driving: Any) -> None:
        note = RejectedCode(sha256_of("code-6"), "checkout-41")
        checkout.code = "code-6"
        assert done(driving(rejected=note, candidate={"publish": {}}).prepare()).candidate == "8"

    def test_new_code_and_a_version_are_explicit(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = NEW
        note = RejectedCode(sha256_of(NEW), "checkout-41")
        assert finished(driving(rejected=note).prepare).candidate == "8"
        assert done(driving(rejected=note, candidate={"version": "8"}).prepare()).candidate == "8"

    def test_what_was_not_confirmed_is_refused_with_both_hashes(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "newer"
        with pytest.raises(RequestRefused) as refusal:
            driving(candidate={"publish": {"confirm": sha256_of("new")}}).prepare()
        assert str(refusal.value) == (
            f"candidate.publish.confirm: $LATEST of checkout has the CodeSha256 {sha256_of('newer')}, not "
            f'{sha256_of("new")}; somebody has changed its code: check it, then give "confirm": '
            f'"{sha256_of("newer")}"'
        )
        assert len(checkout.versions) == 7

    def test_code_that_changes_during_the_call_is_checked_again(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "new"

        def change(operation: str, when: str) -> None:
            if (operation, when) == ("PublishVersion", "before"):
                checkout.code = "newer"

        checkout.interrupt = change
        driver = driving(candidate={"publish": {"confirm": sha256_of("new")}})
        waits = pending(driver.prepare())
        assert (waits.state, waits.why) == (None, "candidate: the code in $LATEST was changed during this call")
        with pytest.raises(RequestRefused, match="somebody has changed its code"):
            driver.prepare()
        assert len(checkout.versions) == 7

    def test_another_refusal_by_lambda_stays_one(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.code = "new"
        checkout.refuse_next = Refusal("InvalidParameterValueException", "no more versions")
        with pytest.raises(RequestRefused, match=r"candidate: .*no more versions"):
            driving(candidate={"publish": {"confirm": sha256_of("new")}}).prepare()

    def test_an_update_of_somebody_else_between_look_and_update_is_waited_for(
        self, checkout: FakeLambda, driver: LambdaAliasDriver
    ) -> None:
        intent = pending(driver.prepare()).state

        def change(operation: str, when: str) -> None:
            if (operation, when) == ("UpdateFunctionCode", "before"):
                checkout.code = "hotfix"

        checkout.interrupt = change
        waits = pending(driver.prepare(intent))
        assert (waits.state, waits.why) == (None, "candidate: $LATEST was changed during this call")
        assert checkout.code == "hotfix"

    def test_a_failure_of_the_service_is_no_refusal(self, checkout: FakeLambda, driving: Any) -> None:
        checkout.refuse_next = Refusal("ServiceException")
        with pytest.raises(ClientError):
            driving(candidate={"publish": {"confirm": sha256_of("code-7")}}).prepare()


class TestConsumers:
    """A consumer's rollout puts code into $LATEST of its function, and gives it back after its messages."""

    @pytest.fixture
    def consumer(self, checkout: FakeLambda, lambda_client: Any, clients: dict[str, Any]) -> Iterator[Consumer]:
        checkout.code = "code-6"
        consumer = Consumer(checkout, lambda_client, clients["sqs"], QUEUE, BatchSize=10)
        detach = consumer.service.attach(clients["sqs"])
        yield consumer
        detach()

    @staticmethod
    def until_done(consumer: Consumer, action: Callable[[Any], Any], known: SourceState | None) -> SourceState:
        for _ in range(100):
            progress = action(known)
            if isinstance(progress, Done):
                state: SourceState = progress.state
                return state
            assert isinstance(progress, Pending)
            known = progress.state or known
            consumer.clock.sleep(5)
        raise AssertionError(progress)

    @pytest.mark.parametrize("mode", ["split", "ramp"])
    def test_the_code_is_given_back_after_a_rollback(self, consumer: Consumer, checkout: FakeLambda, mode: str) -> None:
        driver = consumer.driver(consumer.plan(mode, candidate=NEW_CODE))
        state = self.until_done(consumer, driver.prepare, None)
        assert state.latest is not None
        assert (checkout.code, state.latest.code_sha256) == (NEW, sha256_of(NEW))
        state = self.until_done(consumer, driver.rollback, state)
        assert state.to_release
        state = self.until_done(consumer, driver.restore, state)
        assert checkout.code == "code-6"
        assert (state.latest, state.to_release, state.must_release) == (None, False, False)
        consumer.assert_as_before("6")

    def test_the_code_is_given_back_although_somebody_else_has_changed_the_redrive_policy(
        self, consumer: Consumer, checkout: FakeLambda
    ) -> None:
        driver = consumer.driver(consumer.plan("split", candidate=NEW_CODE))
        state = self.until_done(consumer, driver.rollback, self.until_done(consumer, driver.prepare, None))
        consumer.sqs.queue("other")
        policy = {"deadLetterTargetArn": arn("other"), "maxReceiveCount": 9}
        consumer.sqs.point(consumer.queue, json.dumps(policy))
        states = [state]

        def restore(known: SourceState) -> Any:
            progress = driver.restore(known)
            states.append(progress.state or known)
            return progress

        with pytest.raises(TargetChanged):
            self.until_done(consumer, restore, state)
        assert checkout.code == "code-6"
        # The record has it, so that the end of the rollout does not report rejected code.
        assert states[-1].latest is None

    @pytest.mark.parametrize("mode", ["split", "ramp"])
    def test_an_intent_that_was_not_carried_out_moves_nothing(
        self, consumer: Consumer, checkout: FakeLambda, mode: str
    ) -> None:
        driver = consumer.driver(consumer.plan(mode, candidate=NEW_CODE))
        intent = pending(driver.prepare()).state
        state = done(driver.rollback(intent))  # type: ignore[arg-type]
        assert state.to_release
        state = self.until_done(consumer, driver.restore, state)
        assert (checkout.code, checkout.updates, consumer.mapping.updates) == ("code-6", [], [])
        assert (state.latest, state.to_release) == (None, False)
