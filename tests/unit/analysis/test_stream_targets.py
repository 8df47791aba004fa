"""A telemetry stream for each team: which stream may report on which functions."""

from __future__ import annotations

import pytest

from headgate.analysis.stream_targets import StreamTargets

STREAMS = StreamTargets.parse("payments=payments-*, payments=ledger,orders=orders-*")
REFUSED = {
    ("shared", "payments-api"): (
        "target: lambda-alias/payments-api/live may be reported by the stream payments only, not by shared"
    ),
    ("orders", "ledger"): "target: lambda-alias/ledger/live may be reported by the stream payments only, not by orders",
    ("orders", "checkout"): (
        "target: the stream orders may not report on lambda-alias/checkout/live; add orders=checkout to StreamTargets"
    ),
}


def refusal(stream: str, function: str, streams: StreamTargets = STREAMS) -> str:
    arn = f"arn:aws:kinesis:eu-central-1:123456789012:stream/{stream}"
    return streams.refusal(arn, f"lambda-alias/{function}/live")


@pytest.mark.parametrize(
    ("stream", "function"),
    [("payments", "payments-api"), ("payments", "ledger"), ("orders", "orders-eu"), ("shared", "checkout")],
)
def test_a_stream_reports_on_its_functions_and_the_others_on_the_rest(stream: str, function: str) -> None:
    assert refusal(stream, function) == ""


@pytest.mark.parametrize(("stream", "function"), REFUSED)
def test_a_stream_does_not_report_on_the_functions_of_another(stream: str, function: str) -> None:
    assert refusal(stream, function) == REFUSED[stream, function]


@pytest.mark.parametrize(
    ("stream", "service", "why"),
    [
        ("payments", "payments-api", ""),
        ("shared", "payments-api", "may be reported by the stream payments only, not by shared"),
        ("orders", "shop", "the stream orders may not report on ecs-service/payments-eu/shop; add orders=shop to Stre"),
        ("shared", "shop", ""),
    ],
)
def test_a_service_is_known_by_its_name_and_not_by_its_cluster(stream: str, service: str, why: str) -> None:
    arn = f"arn:aws:kinesis:eu-central-1:123456789012:stream/{stream}"
    refused = STREAMS.refusal(arn, f"ecs-service/payments-eu/{service}")
    assert (why in refused) if why else refused == ""


@pytest.mark.parametrize("text", ["", " ", ","])
def test_without_entries_every_stream_reports_on_everything(text: str) -> None:
    assert refusal("any", "checkout", StreamTargets.parse(text)) == ""


def test_streams_may_share_a_function() -> None:
    both = StreamTargets.parse("blue=checkout,green=checkout")
    assert (refusal("blue", "checkout", both), refusal("green", "checkout", both)) == ("", "")
    assert "by the stream blue or green only, not by red" in refusal("red", "checkout", both)


def test_a_target_of_another_form_has_no_function_that_a_stream_could_own() -> None:
    arn = "arn:aws:kinesis:eu-central-1:123456789012:stream/shared"
    assert StreamTargets.parse("payments=payments-*").refusal(arn, "payments-api") == ""


@pytest.mark.parametrize("text", ["payments", "payments=", "=payments-*", "a=b=c", "a=b,c"])
def test_an_entry_of_another_form_is_refused_with_the_fix(text: str) -> None:
    with pytest.raises(ValueError, match=r"StreamTargets: '.*' is not <stream>=<functions>; write, for example"):
        StreamTargets.parse(text)
