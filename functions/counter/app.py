"""Counter: counts telemetry for running rollouts, judges it, and sends a signal when there is enough evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.analysis.stream_targets import StreamTargets
from headgate.analysis.telemetry_counter import TelemetryCounter, read_batch
from headgate.analysis.telemetry_notes import TelemetryNotes
from headgate.aws.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
counter = TelemetryCounter(app.client("dynamodb"), app.environment.table)
notes = TelemetryNotes(app.client("dynamodb"), app.environment.table)
streams = StreamTargets.parse(app.environment.stream_targets)
watch, undelivered = app.watch, app.undelivered


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Count a batch. Failures other than those of single records fail the batch, and the stream delivers it again."""
    # Powertools' batch processor handles records one by one. Here a few transactions count a whole batch.
    records, stuck = read_batch(event["Records"], undelivered, streams)
    watch.judge_all(list(counter.count(records, watch).values()))
    notes.note({record.target for record in records})
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in stuck]}
