"""Templates of requests: what is filled in, what a template is for, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import RequestRefused
from headgate.spec.request import read_request
from headgate.triggers.occurrences import PLACEHOLDERS, Occurrence
from headgate.triggers.templates import MAX_TEMPLATES, read_templates, requests_of
from headgate.wire import MAX_REQUEST_CHARACTERS

VALUES = {
    "repository": "shop/checkout",
    "tag": "release-42",
    "digest": "sha256:7f5b",
    "image": "shop/checkout@sha256:7f5b",
    "time": "2026-09-01T08:59:30Z",
    "account": "123456789012",
    "region": "eu-central-1",
}
TEMPLATE = {
    "target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"},
    "candidate": {"code": {"imageUri": "<image>"}},
    "hooks": {"beforeTraffic": [{"lambda": "smoke", "config": {"about": "<tag> of <repository>", "tries": 3}}]},
}


def pushed(**values: str) -> Occurrence:
    return Occurrence("pushed-image", "pushed-image/one", VALUES | values)


def filled(template: Any, occurrence: Occurrence | None = None) -> list[dict[str, Any]]:
    """The requests of a parameter; fails if anything is refused."""

    def fail(*refusal: object) -> None:
        raise AssertionError(refusal)

    text = template if isinstance(template, str) else json.dumps(template)
    return requests_of(text, occurrence or pushed(), fail)


def refused(template: Any, occurrence: Occurrence | None = None) -> tuple[str, str, object]:
    """The only refusal of a parameter."""
    told: list[tuple[str, str, object]] = []
    text = template if isinstance(template, str) else json.dumps(template)
    assert requests_of(text, occurrence or pushed(), lambda *refusal: told.append(refusal)) == []
    [one] = told
    return one


def test_placeholders_are_filled_in_at_every_depth_and_the_rest_stays() -> None:
    [request] = filled(TEMPLATE)
    assert request == {
        "id": "pushed-image/one",
        "target": TEMPLATE["target"],
        "candidate": {"code": {"imageUri": "shop/checkout@sha256:7f5b"}},
        "hooks": {
            "beforeTraffic": [{"lambda": "smoke", "config": {"about": "release-42 of shop/checkout", "tries": 3}}]
        },
    }


def test_a_template_may_have_an_id_of_its_own() -> None:
    assert filled(TEMPLATE | {"id": "checkout-<tag>"})[0]["id"] == "checkout-release-42"


def shape(value: Any) -> Any:
    """A value without its texts."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__ if isinstance(value, str) else value


HOSTILE = st.text(max_size=40) | st.sampled_from(
    ['"}, "strategy": "AllAtOnce', "<image>", "<<tag>>", "\\", '\\"', "{}", "]", "\u0000", "<tag", "\\u003cimage>"]
)


@given(tag=HOSTILE, repository=HOSTILE, image=HOSTILE)
def test_no_value_can_add_a_field_or_another_placeholder(tag: str, repository: str, image: str) -> None:
    [request] = filled(TEMPLATE, pushed(tag=tag, repository=repository, image=image))
    # As the bus gets it.
    received = json.loads(json.dumps(request))
    assert shape(received) == shape({"id": "one", **TEMPLATE})
    assert received["candidate"]["code"]["imageUri"] == image
    assert received["hooks"]["beforeTraffic"][0]["config"]["about"] == f"{tag} of {repository}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(alphabet=st.characters(exclude_characters="<")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@given(template=st.dictionaries(st.text(max_size=8).filter(lambda name: name != "when"), JSON, max_size=5))
def test_what_has_no_placeholder_stays_as_it_is(template: dict[str, Any]) -> None:
    assert filled(template) == [{"id": "pushed-image/one", **template}]


@pytest.mark.parametrize("text", ["a < b > c", "<>", "<a b>", "<1>", "x <- y -> z", "<tag", "tag>"])
def test_angle_brackets_without_a_word_between_them_are_text(text: str) -> None:
    assert filled({"id": text})[0]["id"] == text


# Which events a template is for


@pytest.mark.parametrize(
    ("when", "fits"),
    [
        ({}, True),
        ({"tag": "release-*"}, True),
        ({"tag": "release-4?"}, True),
        ({"tag": "Release-*"}, False),
        ({"tag": "release"}, False),
        ({"tag": ["hotfix-*", "release-*"]}, True),
        ({"tag": ["hotfix-*", "nightly"]}, False),
        ({"tag": "release-*", "repository": "shop/*"}, True),
        ({"tag": "release-*", "repository": "bank/*"}, False),
        # Brackets are characters, as in IAM.
        ({"tag": "release-[0-9]*"}, False),
    ],
)
def test_a_template_is_for_events_of_which_every_pattern_matches(when: dict[str, Any], fits: bool) -> None:
    assert bool(filled(TEMPLATE | {"when": when})) is fits


def test_a_bracket_in_a_pattern_matches_itself() -> None:
    assert filled(TEMPLATE | {"when": {"tag": "[a]*"}}, pushed(tag="[a]b"))


def test_patterns_are_not_part_of_the_request() -> None:
    assert "when" not in filled(TEMPLATE | {"when": {"tag": "*"}})[0]


def test_an_event_without_a_value_fits_no_pattern_for_it() -> None:
    created = Occurrence("created-object", "created-object/one", {"bucket": "code", "key": "a.zip"})
    assert filled({"when": {"objectVersion": "*"}, "target": {}}, created) == []


def test_every_template_of_a_list_that_fits_has_a_request_of_its_own() -> None:
    templates = [
        TEMPLATE | {"when": {"tag": "release-*"}},
        TEMPLATE | {"when": {"tag": "nightly-*"}},
        TEMPLATE | {"when": {"repository": "shop/*"}},
    ]
    assert [request["id"] for request in filled(templates)] == ["pushed-image/one", "pushed-image/one/3"]


# What is refused


def test_an_unknown_placeholder_is_refused_with_what_there_is_and_a_suggestion() -> None:
    rollout_id, reason, target = refused(TEMPLATE | {"candidate": {"code": {"imageUri": "<imagee>"}}})
    assert rollout_id == "pushed-image/one"
    assert reason == (
        "PushedImageRequest.candidate.code.imageUri: <imagee> is not a placeholder of this trigger, which has "
        "<repository>, <tag>, <digest>, <image>, <time>, <account>, <region>; did you mean image?"
    )
    assert target == TEMPLATE["target"]


def test_a_placeholder_of_another_trigger_is_refused() -> None:
    [_, reason, _] = refused({"id": "<version>", "target": {"function": "<nothing>"}})
    assert reason.startswith("PushedImageRequest.id: <version> is not a placeholder of this trigger")


def test_a_refusal_names_the_target_if_it_can_be_filled_in() -> None:
    assert refused({"id": "<x>", "target": {"function": "<repository>"}})[2] == {"function": "shop/checkout"}
    assert refused({"id": "<x>", "target": {"function": "<y>"}})[2] is None


def test_one_template_of_a_list_that_is_refused_does_not_hold_up_the_others() -> None:
    told: list[str] = []
    text = json.dumps([{"id": "<x>"}, TEMPLATE])
    [request] = requests_of(text, pushed(), lambda *refusal: told.append(refusal[1]))
    assert request["id"] == "pushed-image/one/2"
    assert [reason.split(":")[0] for reason in told] == ["PushedImageRequest[0].id"]


def test_a_template_that_does_not_fit_is_not_refused() -> None:
    assert filled({"when": {"tag": "nightly"}, "id": "<x>"}) == []


def test_a_placeholder_without_a_value_says_why() -> None:
    created = Occurrence("created-object", "created-object/one", {"bucket": "code", "key": "a.zip"})
    template = {"candidate": {"code": {"s3ObjectVersion": "<objectVersion>"}}}
    assert refused(template, created)[1] == (
        "CreatedObjectRequest.candidate.code.s3ObjectVersion: <objectVersion> has no value in this event, because the "
        "bucket has no versions; turn on its versioning, or remove the field"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "PushedImageRequest: is not JSON: it ends too early, at line 1, column 1"),
        ('{"target": }', "PushedImageRequest: is not JSON: unexpected text at line 1, column 12: }"),
        ('{"guards": {"alpha": NaN}}', "PushedImageRequest: is not JSON: unexpected text at line 1, column 1: NaN"),
        ('{"a": 18446744073709551616}', "PushedImageRequest: is not JSON: .*a number with too many digits"),
        ('{"a": 1e999}', "PushedImageRequest: is not JSON: .*a number with too many digits"),
        ('"text"', "PushedImageRequest: must be a request as a JSON object, or a list"),
        ("[]", "PushedImageRequest: must be a request as a JSON object, or a list of 1 to 10"),
        (json.dumps([{}] * (MAX_TEMPLATES + 1)), "PushedImageRequest: must be a request as a JSON object, or a list"),
        ('[{}, "x"]', r"PushedImageRequest\[1\]: must be a request as a JSON object \(given \"x\"\)"),
        ('{"when": "release-*"}', r"PushedImageRequest.when: must be an object with patterns, such as \{\"repository"),
        ('{"when": {"tga": "*"}}', "PushedImageRequest.when: tga is not a placeholder of this trigger.*mean tag"),
        ('{"when": {"tag": 7}}', "PushedImageRequest.when.tag: must be a pattern or a list of patterns"),
        ('{"when": {"tag": []}}', "PushedImageRequest.when.tag: must be a pattern or a list of patterns"),
        ('{"a": ' * 20_000 + "1" + "}" * 20_000, "PushedImageRequest: is not JSON: it has too many levels"),
        ('{"a": ' * 400 + "1" + "}" * 400, "PushedImageRequest: has more than 64 levels of lists and objects"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_refused_by_its_name(text: str, reason: str) -> None:
    assert re.search(reason, refused(text)[1]), refused(text)[1]


def test_a_request_that_a_long_value_makes_too_long_is_refused() -> None:
    long = pushed(tag="x" * 1000)
    assert len(filled({"id": "<tag>" * 40}, long)) == 1
    [_, reason, _] = refused({"id": "<tag>" * 60}, long)
    assert f"the limit is {MAX_REQUEST_CHARACTERS}" in reason


@pytest.mark.parametrize("trigger", PLACEHOLDERS)
def test_every_trigger_refuses_by_the_name_of_its_parameter(trigger: Any) -> None:
    with pytest.raises(RequestRefused, match=r"^(PublishedVersion|PushedImage|CreatedObject|Scheduled)Request: "):
        read_templates("no", trigger)


def test_a_pushed_image_revises_the_task_definition_of_a_service() -> None:
    template = {
        "target": {"kind": "ecs-service", "cluster": "web", "service": "<repository>"},
        "candidate": {"revise": {"images": {"app": "<image>"}, "environment": {"app": {"RELEASE": "<tag>"}}}},
    }
    [request] = filled(template, pushed(repository="shop"))
    asked = read_request(request, "unused")
    assert asked.target.key == "ecs-service/web/shop"
    assert asked.candidate.to_wire() == {
        "revise": {
            "images": {"app": VALUES["image"]},
            "environment": {"app": {"RELEASE": "release-42"}},
        }
    }
