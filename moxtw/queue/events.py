"""Events of outgoing messages, as webhook calls in the transaction of what happened."""

from __future__ import annotations

from typing import Protocol

from moxtw.config.dynamic import Dynamic
from moxtw.queue.api import timestamp
from moxtw.queue.hooks import keep_period
from moxtw.queue.hooktypes import Outgoing, encode
from moxtw.store import hooksdb
from moxtw.store.hooksdb import NewHook
from moxtw.store.queuerecord import Queued, Retired
from moxtw.store.tx import Tx


class Config(Protocol):
    """A configuration view, see `moxtw.config.live.LiveConfig`."""

    @property
    def dynamic(self) -> Dynamic:
        """domains.conf."""


def add(
    tx: Tx,
    config: Config,
    message: Queued | Retired,
    event: str,
    *,
    code: int = 0,
    secode: str = "",
    error: str = "",
    dsn: bool = False,
    suppressing: bool = False,
) -> None:
    """Queue the call that tells the sender's account of an event, if it wants to be told."""
    account = config.dynamic.accounts.get(message.sender_account)
    hook = None if account is None else account.outgoing_webhook
    if hook is None or (hook.events and event not in hook.events):
        return
    told = Outgoing(
        Event=event,
        DSN=dsn,
        Suppressing=suppressing,
        QueueMsgID=message.id,
        FromID=message.from_id,
        MessageID=message.message_id,
        Subject=message.subject,
        WebhookQueued=timestamp(tx.now),
        SMTPCode=code,
        SMTPEnhancedCode=f"{code // 100}.{secode}" if code and secode else "",
        Error=error,
        Extra=message.extra,
    )
    new = NewHook(
        account=message.sender_account,
        url=hook.url,
        payload=encode(told),
        authorization=hook.authorization,
        signing_key=hook.signing_key,
        event=event,
        queue_msg_id=message.id,
        from_id=message.from_id,
        message_id=message.message_id,
        subject=message.subject,
        extra=message.extra,
    )
    hooksdb.add(tx, new, keep_period(config.dynamic, message.sender_account))
