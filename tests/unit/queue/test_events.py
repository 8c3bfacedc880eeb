"""Events of outgoing messages: which call follows from what."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from moxtw.queue.api import Filter
from moxtw.queue.operations import QueueOperations
from moxtw.store import hooklists, suppressions
from moxtw.store.hooklists import HookQuery
from moxtw.store.hooksdb import Hook
from moxtw.store.queuelists import Order
from tests.support.store import job, now
from tests.unit.queue.fakes import refused, reply
from tests.unit.queue.support import DYNAMIC
from tests.unit.queue.test_service import Case

HOOK = """\
		OutgoingWebhook:
			URL: http://hooks.example/out
			Authorization: Basic x
			SigningKey: key
"""


class EventCase(Case):
    dynamic = DYNAMIC.replace("\tme:\n", "\tme:\n" + HOOK, 1)

    def hooks(self) -> list[Hook]:
        return job(self.store, hooklists.waiting, HookQuery(), Order("submitted", True))

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(hook.payload) for hook in self.hooks()]


class Events(EventCase):
    def test_delivered(self) -> None:
        (message_id,) = self.add(
            "x@dst.example", from_id="fid", subject="s\u00e9", extra={"Order": "1"}
        )
        (hook,) = self.hooks()
        self.assertEqual(
            (hook.url, hook.authorization, hook.signing_key, hook.event, hook.account),
            ("http://hooks.example/out", "Basic x", "key", "delivered", "me"),
        )
        self.assertEqual(
            (hook.queue_msg_id, hook.from_id, hook.message_id, hook.subject, hook.extra),
            (message_id, "fid", "<1@x>", "s\u00e9", {"Order": "1"}),
        )
        (told,) = self.told()
        self.assertEqual(
            told,
            {
                "Version": 0,
                "Event": "delivered",
                "DSN": False,
                "Suppressing": False,
                "QueueMsgID": message_id,
                "FromID": "fid",
                "MessageID": "<1@x>",
                "Subject": "s\u00e9",
                "WebhookQueued": "2025-06-15T15:06:40Z",
                "SMTPCode": 250,
                "SMTPEnhancedCode": "2.0.0",
                "Error": "",
                "Extra": {"Order": "1"},
            },
        )

    def test_delayed_each_time_then_failed(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(450, "4.1"))
        self.dialer.answers["mx2.example"] = refused(reply(450, "4.1"))
        (message_id,) = self.add("x@dst.example", max_attempts=3)
        events = []
        for _ in range(3):
            (told,) = self.told()
            events.append((told["Event"], told["SMTPCode"], told["SMTPEnhancedCode"]))
            self.settle(1000)
        self.assertEqual(events[0], ("delayed", 450, "4.4.1"))
        self.assertEqual([event[0] for event in events], ["delayed", "delayed", "failed"])
        (told,) = self.told()
        self.assertIn("450", told["Error"])
        # A newer event takes the place of one that waits.
        (hook,) = self.hooks()
        self.assertEqual((hook.queue_msg_id, hook.event), (message_id, "failed"))

    def test_failed_and_suppressing_then_suppressed(self) -> None:
        self.dialer.answers["mx1.example"] = refused(reply(550, "1.1"))
        self.add("x@dst.example")
        self.add("x@dst.example")
        first, second = self.told()
        self.assertEqual(
            (first["Event"], first["Suppressing"], first["SMTPCode"]), ("failed", True, 550)
        )
        self.assertEqual(
            (second["Event"], second["Suppressing"], second["SMTPCode"]), ("suppressed", False, 0)
        )
        self.assertIn("suppression list", second["Error"])
        (entry,) = job(self.store, suppressions.suppressions, "me")
        self.assertEqual(entry.base_address, "x@dst.example")

    def test_dropped_and_failed_by_the_admin(self) -> None:
        operations = QueueOperations(self.store, self.config)
        later = self.store.now() + 10**9
        first, second = self.add("x@dst.example", "y@dst.example", next_attempt=later)
        now(Deferred.fromCoroutine(operations.drop(Filter(IDs=[first]))))
        now(Deferred.fromCoroutine(operations.fail(Filter(IDs=[second]))))
        told = {each["QueueMsgID"]: each for each in self.told()}
        self.assertEqual(told[first]["Event"], "canceled")
        self.assertEqual(told[second]["Event"], "failed")
        self.assertIn("canceled by admin", told[second]["Error"])

    def test_each_recipient_has_its_event(self) -> None:
        ids = self.add("x@dst.example", "y@dst.example", "z@dst.example")
        self.assertEqual([each["QueueMsgID"] for each in self.told()], ids)

    def test_accounts_without_webhook_are_told_nothing(self) -> None:
        self.add("x@dst.example", sender_account="other")
        self.assertEqual(self.hooks(), [])


class Chosen(EventCase):
    dynamic = DYNAMIC.replace(
        "\tme:\n", "\tme:\n" + HOOK + "\t\t\tEvents:\n\t\t\t\t- failed\n", 1
    )

    def test_only_events_that_are_wanted(self) -> None:
        self.add("x@dst.example")
        self.assertEqual(self.hooks(), [])
        self.dialer.answers["mx1.example"] = refused(reply(550, "7.0"))
        self.add("x@dst.example")
        self.assertEqual([each["Event"] for each in self.told()], ["failed"])
