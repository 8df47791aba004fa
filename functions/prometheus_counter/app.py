"""Counts the requests and failures of two revisions for a guard with ``counts``, by queries of a Prometheus server.

config: ``{"url": "https://...", "requests": "<PromQL>", "failures": "<PromQL>", "auth": "none"}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.counting.prometheus import PrometheusCounter
from headgate.counting.prometheus_server import PrometheusServer
from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.counting.prometheus_config import PrometheusConfig

app = bootstrap.Application()


def server_for(config: PrometheusConfig) -> PrometheusServer:
    return PrometheusServer(config.url, app.prometheus_access.headers_for(config))


counter = PrometheusCounter(server_for)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    logger.append_keys(rollout_id=event.get("rolloutId"), guard=event.get("guard"))
    try:
        return {"minutes": counter.count(event)}
    except HeadgateError as error:
        # A plan and a verdict show the kind of the error and name this log.
        logger.error("the server did not count", reason=str(error))
        raise
