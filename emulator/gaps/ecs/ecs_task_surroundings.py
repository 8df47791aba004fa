"""Containers of tasks reach their metadata and AWS, as the task's role.

On AWS, a container finds its task's metadata at ECS_CONTAINER_METADATA_URI_V4, with the name of the service that it is
of, and gets the credentials of the task role
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html). MiniStack gives containers addresses
at which the embedded AWS does not listen, leaves the name out, and offers credentials that it does not know itself.
Here they have addresses that they can reach, and the credentials are in their environment.

Seams: `ecs._register_metadata`, which makes a container's environment, and `ecs_metadata.register_container`.
"""

import hashlib
import os
from collections.abc import Callable
from typing import Any

from ministack.services import ecs, ecs_metadata, sts

from emulator.gaps import seams
from emulator.gaps.ecs import container_passage

GAP = "ecs_task_surroundings"
_PARAMETERS = "task_arn, cluster_arn, td, cdef, launch_type, env, host_mode, ministack_net_ip"
_OFFERED = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN")


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecs, "_register_metadata", _PARAMETERS, _surroundings)
    seams.wrap(
        GAP, ecs_metadata, "register_container", "token, task_arn, task_payload, container_payload", _with_service
    )
    seams.expect(GAP, sts, "register_session", "access_key, session")


def _surroundings(original: Callable[..., Any], task_arn: str, *rest: Any) -> Any:
    token = original(task_arn, *rest)
    _cluster_arn, definition, _container, _launch_type, environment, host_mode, _ = rest
    # Without an engine, or on the host's network, a container is on this machine's loopback.
    engine = None if host_mode else ecs._docker
    url = container_passage.url(engine) if engine else f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"
    if url:
        environment |= {"AWS_ENDPOINT_URL": url, "ECS_CONTAINER_METADATA_URI_V4": f"{url}/v4/{token}"}
    region = task_arn.split(":")[3]
    environment |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    for name in _OFFERED:
        environment.pop(name, None)
    if definition.get("taskRoleArn"):
        environment |= _credentials(definition["taskRoleArn"], task_arn)
    return token


def _credentials(role_arn: str, task_arn: str) -> dict[str, str]:
    account, role, task_id = role_arn.split(":")[4], role_arn.rpartition("/")[2], task_arn.rpartition("/")[2]
    digest = hashlib.sha256(f"{task_arn}:{role_arn}".encode()).hexdigest()
    key, secret, token = f"ASIA{digest[:16].upper()}", digest, digest[::-1]
    session = {
        "Arn": f"arn:aws:sts::{account}:assumed-role/{role}/{task_id}",
        "UserId": f"{role}:{task_id}",
        "SecretAccessKey": secret,
        "SessionToken": token,
    }
    sts.register_session(key, session)
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


def _with_service(
    original: Callable[..., Any], token: str, task_arn: str, task_payload: Any, container_payload: Any
) -> None:
    # The request for the metadata names no account: the payload is made where the task starts, which does.
    group = (ecs._tasks.get(task_arn) or {}).get("group", "")
    service = {"ServiceName": group.partition(":")[2]} if group.startswith("service:") else {}
    original(token, task_arn, {**task_payload, **service}, container_payload)
