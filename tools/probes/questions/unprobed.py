"""Questions that no cheap call settles. They stay in the list, so that nobody takes them for answered."""

from __future__ import annotations

from tools.probes.model import Unprobed

UNPROBED = (
    Unprobed(
        "Under which name does a throttled StartExecution arrive?",
        "A throttle needs more than a thousand starts a second, which would hold up the account's own machines. "
        "`error-of-start-execution` produces another error that the model does not list; its name follows the same "
        "rule.",
        "StepFunctions.AWSStepFunctionsException",
    ),
    Unprobed(
        "Under which name does Step Functions report a function that became inactive?",
        "Lambda makes a function inactive after weeks without an invocation. Nothing can hasten it.",
        "Lambda.CodeArtifactUserPendingException, or Lambda.ResourceNotReadyException in a VPC",
    ),
    Unprobed(
        "Are records of one partition key processed in order with a ParallelizationFactor above 1?",
        "An observation can refute it and never prove it, and it takes much traffic to be worth anything.",
        "Yes, as AWS announced it. Exact counts with a `TelemetryParallelism` above 1 rely on it.",
    ),
    Unprobed(
        "Does stopping an execution always stop its child execution or task?",
        "The documentation calls it best effort; a failure cannot be produced.",
        "No. After a timeout the machines stop the child or task themselves.",
    ),
    Unprobed(
        "Are the targets of a target group checked that has the weight 0 in every rule?",
        "It takes a VPC with two subnets, a load balancer and a running task.",
        "Yes, as ECS's own blue/green deployments begin so. A candidate is healthy before its first "
        "weight (`targets/ecs_service/second_revision.py`).",
    ),
    Unprobed(
        "How late may ECS describe a service or task set that was just changed?",
        "An observation can refute a limit and never prove it. The documentation says that the API follows an eventual "
        "consistency model, and gives no time.",
        "Up to a minute (`SETTLE_SECONDS`). Later, a service that looks as before counts as changed from outside.",
    ),
    Unprobed(
        "Does UpdateService begin a deployment if the service has the given task definition already?",
        "It takes running tasks to tell a deployment that replaces them from none.",
        "No. After a lost answer the driver repeats the call. If it does, the release takes one deployment longer.",
    ),
    Unprobed(
        "Is the id of a task set what its tasks have in startedBy?",
        "It takes running tasks in a service with the deployment controller EXTERNAL.",
        "Yes. If not, the driver does not count tasks of a task set that fail, and `target.readySeconds` ends its wait "
        "for the candidate.",
    ),
    Unprobed(
        "For which resources does DescribeCapacityProviders with a cluster ask for permission?",
        "Capacity providers of ECS Managed Instances take roles, a security group and subnets.",
        "For the capacity providers alone. If also for the cluster, a rollout with task sets on other capacity "
        "providers than Fargate's is refused, with AWS's message.",
    ),
    Unprobed(
        "How many changes of task sets does an account take a second?",
        "ECS publishes no rate for them, and a throttle would hold up the account's own deployments.",
        "Five, as of services. [Benchmarks](benchmarks.md) counts what a rollout needs.",
    ),
    Unprobed(
        "Does ModifyRule keep the client secret of an action that signs users in, with UseExistingClientSecret?",
        "It needs a listener with a certificate, a VPC with two subnets, and an identity provider.",
        "Yes, as the documentation of the field says. Headgate sends every other action of a rule back as it was.",
    ),
    Unprobed(
        "How soon does a load balancer split requests by new weights?",
        "It needs a load balancer with targets in a VPC under traffic, for which AWS publishes no figure.",
        "Within seconds. A rule is read back before a bake counts.",
    ),
)
