"""E-mails of topics.

SNS sends a message to each address that has subscribed by the protocol ``email``, with the subject, and with the text
of a ``MessageStructure`` of ``json`` for that protocol. It refuses a subject that has 100 characters or more, or has
line breaks or control characters (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html). MiniStack takes every
subject, and sends no e-mail.

Here, e-mails are kept in the mailbox of MiniStack's SES, which ``GET /_ministack/ses/messages`` shows. Not filled: the
confirmation of a subscription by a link in an e-mail, and the link at the end of each e-mail that ends it.

Seams: `sns._publish`, `sns._fanout`, and `ses._sent_emails_list`.
"""

import time
from collections.abc import Callable
from typing import Any

from ministack.core.arn import parse_arn
from ministack.services import ses, sns

from emulator.gaps import scope, seams

GAP = "emails"
MAX_SUBJECT = 99
SENDER = "no-reply@sns.amazonaws.com"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, sns, "_publish", "params", _publish)
    seams.wrap(
        GAP,
        sns,
        "_fanout",
        "topic_arn, msg_id, message, subject, message_structure, message_attributes, message_group_id, "
        "message_dedup_id",
        _fan_out,
    )
    seams.expect(GAP, sns, "_resolve_message_for_protocol", "message, message_structure, protocol")
    seams.expect(GAP, ses, "_sent_emails_list", "")


def _publish(original: Callable[..., Any], params: Any) -> Any:
    subject = sns._p(params, "Subject")
    if subject and (len(subject) > MAX_SUBJECT or not subject.isprintable()):
        return sns._error("InvalidParameter", "Invalid parameter: Subject", 400)
    return original(params)


def _fan_out(
    original: Callable[..., Any],
    topic_arn: str,
    msg_id: str,
    message: str,
    subject: str,
    message_structure: str = "",
    *others: Any,
    **named: Any,
) -> Any:
    topic = sns._topic_by_arn_any_scope(topic_arn)
    for subscription in topic["subscriptions"] if topic else ():
        if subscription.get("confirmed") and subscription.get("protocol") == "email":
            text = sns._resolve_message_for_protocol(message, message_structure, "email")
            _send(topic, msg_id, subscription["endpoint"], subject or "AWS Notification Message", text)
    return original(topic_arn, msg_id, message, subject, message_structure, *others, **named)


def _send(topic: dict[str, Any], msg_id: str, address: str, subject: str, text: str) -> None:
    place = parse_arn(topic["arn"])
    with scope.of(place.account_id, place.region):
        ses._sent_emails_list().append(
            {
                "MessageId": msg_id,
                "Source": SENDER,
                "To": [address],
                "Subject": subject,
                "BodyText": text,
                "BodyHtml": None,
                "Timestamp": time.time(),
                "Type": "SNS",
            }
        )
