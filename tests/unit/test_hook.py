"""What hooks share: invoking a version, comparing an answer, answering Headgate."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.hook import Answer, error_in, failed, invoke, mismatch, succeeded

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


@given(
    secret=st.text(st.characters(categories=["L", "N"]), min_size=24), expected=st.sampled_from([7, "x", {}, [], True])
)
def test_a_difference_never_tells_what_the_answer_is(secret: str, expected: Any) -> None:
    for given_ in (secret, [secret], {"name": secret}, {secret: 1}):
        assert secret not in mismatch(expected, given_)
        assert secret not in mismatch({"a": [expected]}, {"a": [given_]})


def test_a_function_that_fails_is_an_answer_with_the_type_of_its_error(
    checkout: FakeLambda, lambda_client: Any
) -> None:
    checkout.answers["7"] = ValueError("no basket")
    answer = invoke(lambda_client, "checkout", "7", {})
    assert (answer.payload, answer.version) == (None, "7")
    assert answer.error == "ValueError; see the logs of checkout"


@pytest.mark.parametrize(
    "text",
    [
        '{"errorType": "no basket"}',
        '{"errorType": 7}',
        '{"errorMessage": "no basket"}',
        '"no basket"',
        "no basket",
        "[" * 60_000,
    ],
)
def test_an_error_without_a_type_tells_nothing_of_itself(text: str) -> None:
    function = "arn:aws:lambda:us-east-1:123456789012:function:checkout:live"
    assert error_in(function, text) == "an error; see the logs of checkout:live"


def test_a_function_that_cannot_be_invoked_is_an_answer_with_the_reason(
    checkout: FakeLambda, lambda_client: Any
) -> None:
    answer = invoke(lambda_client, "checkout", "99", {})
    assert "ResourceNotFoundException" in answer.error
    assert "Function not found: checkout:99" in answer.error


@pytest.mark.parametrize(
    ("expected", "answer"),
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
def test_an_answer_may_hold_more_than_is_expected(expected: Any, answer: Any) -> None:
    assert mismatch(expected, answer) == ""


@pytest.mark.parametrize(
    ("expected", "answer", "where"),
    [
        ({"total": 7}, {"total": 8}, "$.total is another number than expected"),
        ({"total": 7}, {}, "$.total is null, expected a number"),
        ({"total": 7}, None, "$ is null, expected an object"),
        (
            {"basket": {"total": 7}},
            {"basket": {"total": "7"}},
            "$.basket.total is a string of length 1, expected a number",
        ),
        ({"basket": {}}, {}, "$.basket is null, expected an object"),
        ([1, 2], [1, 2, 3], "$ is an array of length 3, expected an array of length 2"),
        ({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 0, "c": 0}, "$.b is another number than expected"),
        ({"error": None}, {"error": "no stock"}, "$.error is a string of length 8, expected null"),
        ({"ok": True}, {"ok": 1}, "$.ok is a number, expected a boolean"),
        ({"ok": True}, {"ok": False}, "$.ok is another boolean than expected"),
        ({"count": 0}, {"count": False}, "$.count is a boolean, expected a number"),
        ({"name": "ada"}, {"name": "bob"}, "$.name is another string of length 3 than expected"),
        ({"items": [{"id": 1}]}, {"items": [{"id": 2}]}, "$.items[0].id is another number than expected"),
        ({"the total": 7}, {"the total": [7]}, '$["the total"] is an array of length 1, expected a number'),
    ],
)
def test_the_first_difference_is_named_by_its_place(expected: Any, answer: Any, where: str) -> None:
    assert mismatch(expected, answer) == where


def test_the_answers_are_those_of_lifecycle_hooks() -> None:
    assert succeeded({"cases": 2}) == {"hookStatus": "SUCCEEDED", "hookDetails": {"cases": 2}}
    assert failed("too slow") == {"hookStatus": "FAILED", "hookDetails": {"reason": "too slow"}}
