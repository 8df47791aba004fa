"""How ECS says that a task could not start for now: it throttled the request, or a quota or the capacity is used up.

ECS has no error code of its own for these. They arrive as the text of ECS.AmazonECSException,
ECS.InvalidParameterException, ECS.ClientException or ECS.ServerException, as a reason in RunTask's ``failures``, or as
the reason why a task or container stopped. So the text decides.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

RefusalMeaning = Literal["throttled", "over-quota", "no-capacity"]

_API_FAILURES = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html"
_SERVICE_EVENTS = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html"
_COMMON_ERRORS = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html"


class Refusal(NamedTuple):
    """One way in which ECS refuses a task."""

    meaning: RefusalMeaning
    text: str
    """Words in any case; of a code, the exact beginning."""
    source: str
    """Documentation, or a report from an account."""
    code: bool = False
    """Whether the text is a code with which the reason begins, such as ``RESOURCE:``."""


REFUSALS = (
    # ECS's own throttling, and that of EC2 and of other services that ECS calls for the task.
    Refusal("throttled", "Rate exceeded", "https://github.com/AllenInstitute/neuron_morphology/issues/151"),
    Refusal("throttled", "ThrottlingException", _COMMON_ERRORS),
    Refusal("throttled", "ErrorCode: Throttling", "https://github.com/dagster-io/dagster/issues/33439"),
    Refusal("throttled", "RequestLimitExceeded", "https://github.com/dask/dask-cloudprovider/issues/56"),
    Refusal("throttled", "Request limit exceeded", "https://github.com/CloudSnorkel/cdk-github-runners/issues/946"),
    # "... while preparing network interface to be attached to instance", of AWS Batch's jobs on Fargate.
    Refusal(
        "throttled", "Rate limit exceeded", "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/throttling.html"
    ),
    # ECS does not take the request, like one too many.
    Refusal(
        "throttled",
        "Service Unavailable. Please try again later",
        "https://github.com/whilenull/7777-support/issues/35",
    ),
    # "... tasks you can run concurrently", "... vCPUs you can run concurrently".
    Refusal("over-quota", "reached the limit on the number of", _SERVICE_EVENTS),
    # "The requested CPU configuration is above your limit", "... MEMORY ...".
    Refusal("over-quota", "configuration is above your limit", _SERVICE_EVENTS),
    Refusal(
        "no-capacity", "Capacity is unavailable", "https://repost.aws/knowledge-center/ecs-fargate-runtask-capacity"
    ),
    # 500 tasks of the cluster wait for capacity already. RunTask and the events of a service spell it differently.
    Refusal("no-capacity", "provisioning capacity limit", "https://github.com/aws/aws-sdk-ruby/issues/3047"),
    Refusal("no-capacity", "EMPTY CAPACITY PROVIDER", _API_FAILURES),
    Refusal("no-capacity", "NO ACTIVE INSTANCES", _API_FAILURES),
    Refusal("no-capacity", "No Container Instances were found", _SERVICE_EVENTS),
    Refusal("no-capacity", "unable to place a task", _SERVICE_EVENTS),
    Refusal("no-capacity", "insufficient capacity", _SERVICE_EVENTS),
    Refusal("no-capacity", "RESOURCE:", _API_FAILURES, code=True),
    Refusal("no-capacity", "AGENT", _API_FAILURES, code=True),
    Refusal("no-capacity", "CAPACITY", _API_FAILURES, code=True),
)
"""The first one that matches counts. ATTRIBUTE, LOCATION and unsatisfied placement constraints are not among them: they
last until somebody changes the task or the cluster."""


def refusal_in(text: str) -> RefusalMeaning | None:
    """Return what a text of ECS means; None if it is not about throttling, quotas or capacity."""
    # If a task waited for a capacity provider without success, the code follows its stop code.
    reason, lower = text.removeprefix("TaskFailedToStart:").lstrip(), text.lower()
    for meaning, words, _, code in REFUSALS:
        if reason.startswith(words) if code else words.lower() in lower:
            return meaning
    return None
