"""The environment variables that the template sets on functions."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.aws.place import Place


def setting(name: str) -> str:
    """Return an environment variable that the template sets. If it is missing, the deployment is faulty."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"environment variable {name} is not set; template.yaml sets it on this function")
    return value


class Environment:
    """The environment variables from the template, with types. Each is read on use; errors name missing ones."""

    @property
    def table(self) -> str:
        """Name of the table."""
        return setting("TABLE")

    @property
    def retention_days(self) -> int:
        """Days for which the record of an ended rollout is kept."""
        return int(setting("RETENTION_DAYS"))

    @property
    def rollout_machine(self) -> str:
        """ARN of the rollout machine."""
        return setting("ROLLOUT_MACHINE")

    @property
    def stack_machine(self) -> str:
        """ARN of the stack machine, which carries out CloudFormation's requests."""
        return setting("STACK_MACHINE")

    def job_machine(self, kind: str) -> str:
        """Return the ARN of the machine of a kind of job: ``task`` or ``redrive``."""
        return setting(f"{kind.upper()}_MACHINE")

    @property
    def drivers(self) -> dict[str, str]:
        """ARN of the driver for each kind of target."""
        drivers: dict[str, str] = json.loads(setting("DRIVERS"))
        return drivers

    @property
    def telemetry(self) -> bool:
        """True if the telemetry stream is deployed."""
        return setting("TELEMETRY") == "true"

    @property
    def stream_targets(self) -> str:
        """Telemetry streams with functions of their own: ``<stream>=<functions>,...``. It may be empty."""
        return os.environ.get("STREAM_TARGETS", "")

    @property
    def bus(self) -> str:
        """Name of the event bus."""
        return setting("BUS")

    @property
    def topic(self) -> str:
        """ARN of the topic for notifications."""
        return setting("TOPIC")

    @property
    def stack(self) -> str:
        """Name of the stack."""
        return setting("STACK")

    @property
    def slack_channel(self) -> str:
        """Channel in Slack that gets notifications; empty without Slack."""
        return os.environ.get("SLACK_CHANNEL", "")

    @property
    def teams(self) -> bool:
        """True if a Teams workflow gets notifications."""
        return setting("TEAMS") == "true"

    @property
    def amazon_q(self) -> bool:
        """True if a topic for Amazon Q Developer gets notifications."""
        return setting("AMAZON_Q") == "true"

    @property
    def undelivered(self) -> str:
        """URL of the queue for records that cannot be delivered."""
        return setting("UNDELIVERED")

    @property
    def keep_awake(self) -> list[str]:
        """Names of the functions that must not become inactive."""
        return setting("KEEP_AWAKE").split()

    @property
    def account(self) -> str:
        """The AWS account."""
        return setting("ACCOUNT")

    @property
    def place(self) -> Place:
        """Partition, account and Region of this deployment."""
        from headgate.aws.place import Place

        return Place(setting("PARTITION"), self.account, setting("AWS_REGION"))

    @property
    def patterns(self) -> dict[str, str]:
        """Name patterns of what a request may reach, by the parameter of the stack."""
        patterns: dict[str, str] = json.loads(setting("PATTERNS"))
        return patterns

    @property
    def prefix(self) -> str:
        """What the names of Headgate's own functions and state machines begin with."""
        return setting("PREFIX")

    @property
    def own_queues(self) -> dict[str, str]:
        """Name of each of Headgate's queues, and of the queue to which its messages may be redriven, if any."""
        queues: dict[str, str] = json.loads(setting("OWN_QUEUES"))
        return queues

    @property
    def holding_prefix(self) -> str:
        """Prefix of the names of the rollouts' own queues."""
        return setting("HOLDING_PREFIX")

    @property
    def settle_seconds(self) -> int:
        """Seconds until new attributes of a queue apply everywhere."""
        return int(setting("SETTLE_SECONDS"))

    @property
    def weight_settle_seconds(self) -> int:
        """Seconds until all nodes of a load balancer split requests by new weights."""
        return int(setting("WEIGHT_SETTLE_SECONDS"))

    @property
    def target_streams(self) -> str:
        """Pattern for the names of streams, and of tables with streams, that may be replayed; empty allows none."""
        return os.environ.get("TARGET_STREAMS", "")

    @property
    def task_roles(self) -> str:
        """Pattern for the names of the roles that an ECS task may have. It may be empty, which allows no role."""
        return os.environ.get("TASK_ROLES", "")

    @property
    def task_definitions(self) -> str:
        """Pattern for the task definition families that may be run or registered. Empty allows none."""
        return os.environ.get("TASK_DEFINITIONS", "")

    @property
    def may_register_task_definitions(self) -> bool:
        """True if a task definition in a request may be registered."""
        return setting("REGISTER_TASK_DEFINITIONS") == "true"

    @property
    def task_clusters(self) -> str:
        """Pattern for the names of the clusters that tasks may run on."""
        return setting("TASK_CLUSTERS")

    @property
    def clean_functions(self) -> str:
        """Pattern for the names of the functions whose old versions are deleted."""
        return setting("CLEAN_FUNCTIONS")

    @property
    def keep_versions(self) -> int:
        """How many of the newest versions of a function are kept."""
        return int(setting("KEEP_VERSIONS"))

    @property
    def clean_older_than_days(self) -> int:
        """Age in days under which a version is kept."""
        return int(setting("CLEAN_OLDER_THAN_DAYS"))

    @property
    def signal_dead_letters(self) -> str:
        """URL of the queue of refused signals."""
        return setting("SIGNAL_DEAD_LETTERS")

    @property
    def trigger_folder(self) -> str:
        """What the names of the triggers' templates in Systems Manager begin with."""
        return setting("TRIGGER_FOLDER")

    @property
    def publishing_roles(self) -> list[str]:
        """ARNs of the roles with which rollouts publish versions."""
        return setting("PUBLISHING_ROLES").split()

    @property
    def url_suffix(self) -> str:
        """Domain of AWS in this partition, such as amazonaws.com."""
        return setting("URL_SUFFIX")

    @property
    def jobs(self) -> str:
        """URL of the queue of requests for ECS tasks and redrives."""
        return setting("JOBS")

    @property
    def job_dead_letters(self) -> str:
        """URL of the dead-letter queue of that queue."""
        return setting("JOB_DEAD_LETTERS")

    def requests(self, *, fifo: bool) -> str:
        """Return the URL of a request queue."""
        return setting("FIFO_REQUESTS" if fifo else "REQUESTS")

    def dead_letters(self, *, fifo: bool) -> str:
        """Return the URL of the dead-letter queue of a request queue."""
        return setting("FIFO_DEAD_LETTERS" if fifo else "DEAD_LETTERS")
