"""Observer: reads counts each minute for all rollouts that are judged by them, and sends signals.

It asks CloudWatch and the functions that guards name. It also compares telemetry with AWS's own counts, and checks the
limits on the sources of consumers and on the tasks of services. Promoted rollouts with ``afterPromotion`` are looked
at, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.analysis.cloudwatch_counts import CloudWatchCounts
from headgate.analysis.report_checks import ReportChecks
from headgate.aws.observability import logger
from headgate.rollouts.after_promotion_sweep import AfterPromotionSweep
from headgate.rollouts.cloudwatch_watch import CloudWatchWatch
from headgate.rollouts.target_limits import TargetLimits

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
cloudwatch = app.client("cloudwatch")
limits = TargetLimits(app.table, cloudwatch, app.client("sqs"))
watch = CloudWatchWatch(
    app.watch,
    CloudWatchCounts(cloudwatch),
    lambda: app.count_functions,
    limits,
    ReportChecks(app.ledgers, cloudwatch),
)
promoted = AfterPromotionSweep(app.table, app.watches, app.alarms, limits)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    try:
        return {"looked": watch.look_at_all()}
    finally:
        promoted.look_at_all()
