"""What hooks share: invoking a version, comparing an answer, answering Headgate."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from headgate.hook import Answer, failed, invoke, mismatch, succeeded

if TYPE_CHECKING:
    from tests.fakes.services import FakeLambda


def test_an_invocation_gives_the_answer_and_the_version_that_gave_it(checkout: FakeLambda, lambda_client: Any) -> None:
    checkout.answers["7"] = lambda payload: {"total": payload["price"] * 2}
    assert invoke(lambda_client, "checkout", "7", {"price": 3.5}) == ({"total": 7.0}, "7", "")


def test_an_alias_tells_which_version_answered(checkout: FakeLambda, lambda_client: Any) -> None:
    checkout.answers["6"] = "hello"
    assert invoke(lambda_client, "checkout", "live", {}) == ("hello", "6", "")


def test_a_function_may_answer_nothing(checkout: FakeLambda, lambda_client: Any) -> None:
    assert invoke(lambda_client, "checkout", "7", {}) == (None, "7", "")


@pytest.mark.parametrize(("told", "payload"), [(b"all is well", "all is well"), (b"\xff", "\ufffd"), (b"{", "{")])
def test_what_a_custom_runtime_answers_may_be_no_json(
    checkout: FakeLambda, lambda_client: Any, monkeypatch: pytest.MonkeyPatch, told: bytes, payload: str
) -> None:
    def answer(**_: Any) -> Any:
        return {"StatusCode": 200, "ExecutedVersion": "7", "Payload": io.BytesIO(told)}

    monkeypatch.setattr(checkout, "Invoke", answer)
    assert invoke(lambda_client, "checkout", "7", {}) == Answer(payload, "7")


def test_a_function_that_fails_is_an_answer_with_its_error(checkout: FakeLambda, lambda_client: Any) -> None:
    checkout.answers["7"] = ValueError("no basket")
    answer = invoke(lambda_client, "checkout", "7", {})
    assert (answer.payload, answer.version) == (None, "7")
    assert answer.error == '{"errorType": "ValueError", "errorMessage": "no basket"}'


def test_a_function_that_cannot_be_invoked_is_an_answer_with_the_reason(
    checkout: FakeLambda, lambda_client: Any
) -> None:
    answer = invoke(lambda_client, "checkout", "99", {})
    assert "ResourceNotFoundException" in answer.error
    assert "Function not found: checkout:99" in answer.error


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (None, {"any": "thing"}),
        ({}, {"any": "thing"}),
        ({"total": 7}, {"total": 7.0, "release": "1"}),
        ({"basket": {"total": 7}}, {"basket": {"total": 7, "items": []}}),
        ([1, 2], [1, 2]),
        ("ok", "ok"),
        (False, False),
        ({"error": None}, {"error": None}),
        ({"items": [{"id": 1}, {}]}, {"items": [{"id": 1, "price": 3.5}, {"id": 2}]}),
    ],
)
def test_an_answer_may_hold_more_than_is_expected(expected: Any, given: Any) -> None:
    assert mismatch(expected, given) == ""


@pytest.mark.parametrize(
    ("expected", "given", "where"),
    [
        ({"total": 7}, {"total": 8}, "answer.total is 8, expected 7"),
        ({"total": 7}, {}, "answer.total is null, expected 7"),
        ({"total": 7}, None, 'answer is null, expected {"total": 7}'),
        ({"basket": {"total": 7}}, {"basket": {"total": "7"}}, 'answer.basket.total is "7", expected 7'),
        ({"basket": {}}, {}, "answer.basket is null, expected {}"),
        ([1, 2], [1, 2, 3], "answer is [1, 2, 3], expected [1, 2]"),
        ({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 0, "c": 0}, "answer.b is 0, expected 2"),
        ({"error": None}, {"error": "no stock"}, 'answer.error is "no stock", expected null'),
        ({"ok": True}, {"ok": 1}, "answer.ok is 1, expected true"),
        ({"count": 0}, {"count": False}, "answer.count is false, expected 0"),
        ({"items": [{"id": 1}]}, {"items": [{"id": 2}]}, "answer.items[0].id is 2, expected 1"),
    ],
)
def test_the_first_thing_that_is_otherwise_is_named(expected: Any, given: Any, where: str) -> None:
    assert mismatch(expected, given) == where


def test_the_answers_are_those_of_lifecycle_hooks() -> None:
    assert succeeded({"cases": 2}) == {"hookStatus": "SUCCEEDED", "hookDetails": {"cases": 2}}
    assert failed("too slow") == {"hookStatus": "FAILED", "hookDetails": {"reason": "too slow"}}
