"""Webhooks at work: schedule, order, what is kept; with a clock and without sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw import metrics
from moxtw.net.httpclient import HTTPError, Response
from moxtw.queue.hookcall import HookCaller, ascii_url, signature
from moxtw.queue.hooks import MAX_ATTEMPTS, WAITS, HookService
from moxtw.queue.schedule import MAX_BUSY
from moxtw.store import hooklists, hooksdb
from moxtw.store.hooklists import HookQuery
from moxtw.store.hooksdb import Hook, NewHook, RetiredHook
from moxtw.store.queuelists import Order
from tests.support.store import job
from tests.unit.queue.support import DYNAMIC, STATIC, FixedConfig, make_account, make_store

URL = "http://hooks.example/a"
HOUR = 3600


class FakeClient:
    """Answers as `answer` says: a Response, an exception, a Deferred, or what makes one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.answer: Any = Response(200, {}, b"thanks")
        self.requests: list[tuple[float, str, str, Mapping[str, str], bytes]] = []
        self.busy: set[str] = set()
        self.most_busy = 0

    async def request(self, method: str, url: str, **more: Any) -> Response:
        assert url not in self.busy, "two calls of one URL at the same time"
        self.busy.add(url)
        self.most_busy = max(self.most_busy, len(self.busy))
        self.requests.append((self._clock.seconds(), method, url, more["headers"], more["body"]))
        try:
            answer = self.answer
            if isinstance(answer, Callable):  # type: ignore[arg-type]
                answer = answer(method, url)
            if isinstance(answer, Deferred):
                answer = await answer
        finally:
            self.busy.discard(url)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def ids(self) -> list[int]:
        return [int(fields["X-Mox-Webhook-ID"]) for _, _, _, fields, _ in self.requests]

    @property
    def times(self) -> list[float]:
        return [request[0] for request in self.requests]


class Case(SynchronousTestCase):
    dynamic = DYNAMIC.replace(
        "\t\tKeepRetiredMessagePeriod: 72h\n",
        "\t\tKeepRetiredMessagePeriod: 72h\n\t\tKeepRetiredWebhookPeriod: 72h\n",
    )

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = make_store(self, self.clock)
        make_account(self.store, "me")
        self.config = FixedConfig(self.dynamic, STATIC)
        self.client = FakeClient(self.clock)
        self.service = self.make_service()

    def make_service(self) -> HookService:
        service = HookService(
            self.store,
            self.config,
            HookCaller(self.client, self.clock),
            self.clock,
            random=Random(3),
        )
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def add(self, **fields: Any) -> int:
        values: dict[str, Any] = {"account": "me", "url": URL, "payload": "{}", **fields}
        return job(self.store, hooksdb.add, NewHook(**values), 72 * HOUR * 1_000_000)

    def waiting(self) -> list[Hook]:
        return job(self.store, hooklists.waiting, HookQuery(), Order("submitted", True))

    def retired(self) -> list[RetiredHook]:
        return job(self.store, hooklists.retired, HookQuery(), Order("last_activity", True))

    def pass_time(self, seconds: float, step: float = 5) -> None:
        for _ in range(int(seconds / step)):
            self.clock.advance(step)


class Calls(Case):
    def test_made_at_once(self) -> None:
        hook_id = self.add(payload='{"a":1}', authorization="Basic xyz")
        ((_, method, url, headers, body),) = self.client.requests
        self.assertEqual((method, url, body), ("POST", URL, b'{"a":1}'))
        self.assertEqual(
            dict(headers),
            {
                "Content-Type": "application/json; charset=utf-8",
                "X-Mox-Webhook-ID": str(hook_id),
                "X-Mox-Webhook-Attempt": "1",
                "Authorization": "Basic xyz",
            },
        )
        self.assertEqual(self.waiting(), [])
        (retired,) = self.retired()
        self.assertEqual((retired.success, retired.has_authorization), (True, True))
        (result,) = retired.results
        self.assertEqual((result.code, result.error, result.response), (200, "", "thanks"))
        self.assertEqual(result.url, URL)

    def test_any_2xx_is_success_and_nothing_else(self) -> None:
        for code in (200, 201, 204, 299):
            self.client.answer = Response(code, {}, b"")
            self.add()
            self.assertEqual(self.waiting(), [])
        for code in (100, 199, 300, 304, 400, 404, 410, 500, 599):
            self.client.answer = Response(code, {}, b"x" * 600)
            hook_id = self.add(url=f"http://h{code}/")
            hook = job(self.store, hooksdb.get, hook_id)
            (result,) = hook.results
            self.assertEqual((result.success, result.code), (False, code))
            self.assertEqual(result.response, "x" * 512)
            self.assertIn(str(code), result.error)

    def test_a_signature_over_the_body(self) -> None:
        self.add(payload='{"a":"\u00e9"}', signing_key="k\u00e9y")
        headers, body = self.client.requests[0][3:]
        self.assertEqual(
            headers["X-Mox-Webhook-Signature"], signature("k\u00e9y", '{"a":"\u00e9"}'.encode())
        )
        # Reference: printf '{"a":1}' | openssl dgst -sha256 -hmac secret
        self.assertEqual(
            signature("secret", b'{"a":1}'),
            "sha256=aa9e2e3575f5d7098b6caccd790888c36d5fdb63342a73bada2d6a51747a8494",
        )

    def test_redirects_take_the_call_along(self) -> None:
        codes = [303]

        def answer(method: str, url: str) -> Response:
            if url == URL:
                return Response(codes[0], {"location": "https://other.example/b?c"}, b"")
            return Response(200, {}, b"")

        self.client.answer = answer
        for code in (301, 302, 307, 308):
            self.client.requests.clear()
            codes[0] = code
            self.add(payload='{"a":1}', authorization="secret")
            first, second = self.client.requests
            self.assertEqual(second[1:3], ("POST", "https://other.example/b?c"))
            self.assertEqual(second[4], b'{"a":1}')
            self.assertEqual(first[3]["Authorization"], "secret")
            self.assertNotIn("Authorization", second[3])
        codes[0] = 303
        self.add()
        self.assertEqual(self.client.requests[-1][1], "GET")
        self.assertEqual(self.client.requests[-1][4], b"")
        self.assertEqual(self.waiting(), [])

    def test_redirects_that_are_not_followed(self) -> None:
        for location, text in (
            (URL, "redirects"),
            ("ftp://x/", "must be http"),
            ("http://[::1/", "Invalid"),
        ):
            self.client.answer = Response(302, {"location": location}, b"")
            hook = job(self.store, hooksdb.get, self.add(url=URL + "?" + text[0]))
            self.assertIn(text, hook.results[0].error)
            self.assertEqual(hook.results[0].code, 0)
        self.client.answer = Response(302, {"location": "http://x/"}, b"")
        hook = job(self.store, hooksdb.get, self.add(url="https://s.example/"))
        self.assertIn("from https to http", hook.results[0].error)

    def test_urls_as_requested(self) -> None:
        for url, asked in (
            ("http://x", "http://x/"),
            ("HTTP://EXAMPLE.org:8080/a b?c=d e#f", "http://example.org:8080/a%20b?c=d%20e"),
            ("https://b\u00fccher.example/\u00e9%20", "https://xn--bcher-kva.example/%C3%A9%20"),
            ("http://user:pw@[::1]:81/x", "http://[::1]:81/x"),
        ):
            self.assertEqual(ascii_url(url), asked)
        for url in ("ftp://x/", "/x", "http://", "http://x:99999/", "http://a..b\u00e9/"):
            self.assertRaises(ValueError, ascii_url, url)

    def test_credentials_of_the_url_and_a_wrong_url(self) -> None:
        self.add(url="http://user:p%40w@x/")
        self.assertEqual(self.client.requests[0][3]["Authorization"], "Basic dXNlcjpwQHc=")
        hook = job(self.store, hooksdb.get, self.add(url="nonsense"))
        self.assertIn("URL must be", hook.results[0].error)

    def test_counted(self) -> None:
        def count(code: str) -> float:
            return metrics.webhook_results_total.labels(code)._value.get()

        before = {code: count(code) for code in ("200", "4xx", "error")}
        self.add()
        self.client.answer = Response(499, {}, b"")
        self.add(url="http://a/")
        self.client.answer = HTTPError("refused")
        self.add(url="http://b/")
        self.assertEqual({c: count(c) - n for c, n in before.items()}, dict.fromkeys(before, 1.0))


class Retries(Case):
    def test_at_growing_intervals_until_given_up(self) -> None:
        self.client.answer = HTTPError("connection refused")
        self.add()
        self.pass_time(40 * HOUR, 30)
        times = self.client.times
        self.assertEqual(len(times), MAX_ATTEMPTS)
        for before, after, wait in zip(times[:-1], times[1:], WAITS, strict=True):
            # Give or take 1 %, and the step of the clock.
            self.assertTrue(wait * 0.99 <= after - before <= wait * 1.01 + 30, (after, before))
        attempts = [request[3]["X-Mox-Webhook-Attempt"] for request in self.client.requests]
        self.assertEqual(attempts, [str(n) for n in range(1, 13)])
        self.assertEqual(self.waiting(), [])
        (retired,) = self.retired()
        self.assertEqual((retired.success, retired.attempts), (False, 12))
        self.assertEqual({r.error for r in retired.results}, {"connection refused"})

    def test_receiver_down_for_an_hour(self) -> None:
        down = HTTPError("connection refused")
        self.client.answer = down
        # Three messages, each with events while the receiver is down; and incoming ones.
        incoming = []
        for number in range(3):
            for message in (1, 2, 3):
                event = "delayed" if number < 2 else "delivered"
                self.add(queue_msg_id=message, event=event, payload=f'"{message} {event} {number}"')
            incoming.append(self.add(is_incoming=True, payload=f'"in {number}"'))
            self.pass_time(20 * 60)
        tried = len(self.client.requests)
        # No busy loop: a dozen hooks, at most 6 attempts each within the hour.
        self.assertLess(tried, 12 * 6)
        self.client.answer = Response(200, {}, b"")
        self.client.requests.clear()
        self.pass_time(2 * HOUR)
        bodies = [body.decode() for *_, body in self.client.requests]
        self.assertEqual(
            sorted(bodies),
            sorted(
                [f'"{m} delivered 2"' for m in (1, 2, 3)] + [f'"in {n}"' for n in range(3)]
            ),
        )
        self.assertEqual(self.waiting(), [])
        retired = self.retired()
        self.assertEqual(len(retired), 12)
        superseded = [hook for hook in retired if hook.superseded_by]
        self.assertEqual({h.event for h in superseded}, {"delayed"})
        self.assertEqual(len(superseded), 6)
        self.assertTrue(all(h.success for h in retired if not h.superseded_by))

    def test_events_of_a_message_come_in_order(self) -> None:
        # The receiver is slow: while it has one call, the message goes on.
        slow: Deferred[Response] = Deferred()
        self.client.answer = slow
        first = self.add(queue_msg_id=1, event="delayed")
        self.client.answer = Response(200, {}, b"")
        self.add(queue_msg_id=1, event="delayed")
        last = self.add(queue_msg_id=1, event="delivered")
        self.assertEqual(self.client.ids, [first])
        slow.callback(Response(200, {}, b""))
        self.assertEqual(self.client.ids, [first, last])
        by_id = {hook.id: hook for hook in self.retired()}
        self.assertEqual((by_id[first].success, len(by_id[first].results)), (True, 1))
        self.assertIn("superseded", by_id[first].results[0].error)
        self.assertEqual(by_id[last].results[0].error, "")

    def test_one_that_failed_while_superseded_is_not_tried_again(self) -> None:
        slow: Deferred[Response] = Deferred()
        self.client.answer = slow
        first = self.add(queue_msg_id=1, event="delayed")
        self.client.answer = Response(200, {}, b"")
        last = self.add(queue_msg_id=1, event="delivered")
        slow.callback(Response(500, {}, b""))
        self.pass_time(HOUR)
        self.assertEqual(self.client.ids, [first, last])

    def test_without_a_place_for_retired_ones_nothing_is_kept(self) -> None:
        self.add(account="other")
        self.assertEqual((self.waiting(), self.retired()), ([], []))


class Places(Case):
    def test_urls_do_not_wait_for_each_other(self) -> None:
        self.client.answer = slow = Deferred()
        self.add()
        self.client.answer = Response(200, {}, b"")
        other = self.add(url="http://other/")
        self.assertEqual([h.id for h in self.retired()], [other])
        slow.callback(Response(200, {}, b""))
        self.assertEqual(self.waiting(), [])

    def test_not_more_than_some_at_the_same_time(self) -> None:
        waits: list[Deferred[Response]] = []

        def answer(method: str, url: str) -> Deferred[Response]:
            waits.append(Deferred())
            return waits[-1]

        self.client.answer = answer
        for number in range(15):
            self.add(url=f"http://h{number}/")
        self.assertEqual(len(waits), MAX_BUSY)
        self.client.answer = Response(200, {}, b"")
        for wait in list(waits):
            wait.callback(Response(200, {}, b""))
        self.assertEqual(self.waiting(), [])
        self.assertEqual(self.client.most_busy, MAX_BUSY)

    def test_a_long_line_of_one_url_lets_others_through(self) -> None:
        self.client.answer = slow = Deferred()
        for _ in range(30):
            self.add()
        blocked = [Deferred() for _ in range(MAX_BUSY - 1)]
        for number, wait in enumerate(blocked):
            self.client.answer = wait
            self.add(url=f"http://h{number}/")
        self.client.answer = Response(200, {}, b"")
        late = self.add(url="http://late/")
        slow.callback(Response(200, {}, b""))
        self.assertEqual(self.waiting()[0].url, "http://h0/")
        self.assertIn(late, self.client.ids[MAX_BUSY : MAX_BUSY + 25])
        self.assertNotEqual(self.client.ids[-1], late)
        for wait in blocked:
            wait.callback(Response(200, {}, b""))


class Restarts(Case):
    def test_a_call_cut_off_by_a_stop_is_made_again(self) -> None:
        self.client.answer = Deferred()
        hook_id = self.add()
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.clock.advance(3)
        self.successResultOf(stopped)
        self.client.answer = Response(200, {}, b"")
        self.make_service()
        self.assertEqual(self.client.ids, [hook_id, hook_id])
        (retired,) = self.retired()
        self.assertEqual([r.success for r in retired.results], [False, True])
        self.assertIn("interrupted", retired.results[0].error)

    def test_a_call_that_ends_while_stopping_counts(self) -> None:
        self.client.answer = slow = Deferred()
        self.add()
        stopped = self.service.stopService()
        slow.callback(Response(200, {}, b""))
        self.successResultOf(stopped)
        self.assertTrue(self.retired()[0].success)

    def test_the_last_attempt_is_made_again_too_but_not_forever(self) -> None:
        self.client.answer = HTTPError("no")
        self.add()
        self.pass_time(17 * HOUR, 60)
        (hook,) = self.waiting()
        self.assertEqual(hook.attempts, 11)
        for _ in range(10):
            self.client.answer = lambda method, url: Deferred()
            job(self.store, hooklists.set_next_attempt, [hook.id], 0)
            # As if killed.
            self.service.stopService()
            self.clock.advance(3)
            self.service = self.make_service()
        self.assertEqual(self.waiting(), [])
        (retired,) = self.retired()
        self.assertIn("interrupted", retired.results[-1].error)
        self.assertLess(retired.attempts, 20)

    def test_rescheduled_hooks_are_called(self) -> None:
        self.client.answer = HTTPError("no")
        hook_id = self.add()
        self.client.answer = Response(200, {}, b"")
        job(self.store, hooklists.set_next_attempt, [hook_id], self.store.now())
        self.assertEqual(self.waiting(), [])

    def test_retired_ones_go_after_their_time(self) -> None:
        self.add()
        self.assertEqual(len(self.retired()), 1)
        self.pass_time(74 * HOUR, 600)
        self.assertEqual(self.retired(), [])
