"""Observer: reads CloudWatch each minute for all rollouts that it judges, and sends signals.

It also compares telemetry with AWS's own counts, and checks the limits on the sources of consumers and on the tasks of
services.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.analysis.cloudwatch_counts import CloudWatchCounts
from headgate.analysis.report_checks import ReportChecks
from headgate.aws.observability import logger
from headgate.rollouts.cloudwatch_watch import CloudWatchWatch
from headgate.rollouts.target_limits import TargetLimits

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
cloudwatch = app.client("cloudwatch")
watch = CloudWatchWatch(
    app.watch,
    CloudWatchCounts(cloudwatch),
    TargetLimits(app.table, cloudwatch, app.client("sqs")),
    ReportChecks(app.ledgers, cloudwatch),
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return {"looked": watch.look_at_all()}
