"""The policies on the pages: what they let somebody read of the table."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from tests.docs.pages import PAGES, ROOT, blocks

READS = ("dynamodb:Query", "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Scan")
INDEXES = "/index/*"
SECRET = "STACK#arn:aws:cloudformation:eu-central-1:123456789012:stack/shop/0a1b#CheckoutRollout"
NEEDED = ("ROLLOUT#orders-7", "TARGET#lambda-alias/checkout/live", "TASK#nightly", "REDRIVE#nightly")


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements() -> list[Any]:
    """Every statement of a page or an example that allows reading the table itself."""
    pages = [block for page in PAGES for block in blocks(page.name, page.read_text("utf-8"))]
    policies = [(str(block), json.loads(block.body)) for block in pages if block.title == "IAM policy"]
    pipeline = cfn_yaml.load(str(ROOT / "examples" / "pipelines" / "codepipeline.yaml"))
    role = pipeline["Resources"]["RolloutRole"]["Properties"]
    policies += [("codepipeline.yaml", each["PolicyDocument"]) for each in role["Policies"]]
    return [
        pytest.param(statement, id=f"{where}-{statement['Sid']}")
        for where, policy in policies
        for statement in policy["Statement"]
        if set(listed(statement["Action"])) & set(READS) and INDEXES not in json.dumps(statement["Resource"])
    ]


@pytest.mark.parametrize("statement", statements())
def test_readers_of_the_table_do_not_get_the_urls_of_custom_resources(statement: dict[str, Any]) -> None:
    keys = listed(statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])
    assert not any(fnmatch.fnmatchcase(SECRET, key) for key in keys)
    for needed in NEEDED:
        assert any(fnmatch.fnmatchcase(needed, key) for key in keys), needed
    assert "dynamodb:Scan" not in listed(statement["Action"])


def test_there_are_such_policies() -> None:
    assert len(statements()) == 4
