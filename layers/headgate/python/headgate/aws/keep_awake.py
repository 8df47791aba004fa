"""Keeps functions active between rollouts.

Lambda makes a function inactive that was idle for weeks. Its next invocations fail for one or two minutes: a rollout
would begin with waits, and an alarm, a judge or a rollback would come late while the candidate has traffic. Most
functions run only during rollouts, so each is invoked once a day:
https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.wake import WAKE
from headgate.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_lambda import LambdaClient


def keep_awake(functions: LambdaClient, names: Iterable[str]) -> None:
    """Invoke functions asynchronously, so that Lambda retries one that is not active.

    Raises
    ------
    Transient
        If some could not be invoked. The others were.
    """
    faults = []
    for name in names:
        try:
            functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(WAKE).encode())
        except (ClientError, BotoCoreError) as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise Transient(f"functions that could not be kept awake: {'; '.join(faults)}")
