import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import rdap
from moxtw.admin.rdap import BOOTSTRAP, RDAPError
from moxtw.mail.domain import parse_domain
from moxtw.net.httpclient import HTTPError, Response

NOW = 1_790_000_000.0  # 2026-09-21


def bootstrap(*services):
    return json.dumps({"version": "1.0", "services": list(services)}).encode()


def domain(*events):
    listed = [{"eventAction": action, "eventDate": date} for action, date in events]
    return json.dumps({"objectClassName": "domain", "events": listed}).encode()


LIST = bootstrap(
    [["org", "xn--p1ai"], ["http://plain.example/", "https://rdap.example/v1/"]],
    [["com"], ["ftp://rdap.example/"]],
)


class Client:
    """Answers from a dict of URLs."""

    def __init__(self, answers):
        self.answers = {BOOTSTRAP: (200, LIST), **answers}
        self.asked = []

    async def request(self, method, url, *, timeout, max_size, headers=None):
        self.asked.append((method, url, (headers or {}).get("Accept")))
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Deferred):
            return await answer
        code, body, *location = answer
        return Response(code, {"location": location[0]} if location else {}, body)


GOOD = domain(("registration", "2001-02-03T04:05:06Z"), ("expiration", "2040-01-01T00:00:00Z"))
ONLY = (200, bootstrap([["org"], ["https://rdap.example/v1"]]))
URL = "https://rdap.example/v1/domain/example.org"


class RDAPTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.clock.advance(NOW)

    def ask(self, client, name="example.org"):
        return Deferred.fromCoroutine(
            rdap.registration(client, parse_domain(name), self.clock)
        )

    def when(self, answers, name="example.org"):
        return self.successResultOf(self.ask(Client(answers), name)).isoformat()

    def problem(self, answers, name="example.org"):
        failure = self.failureResultOf(self.ask(Client(answers), name), RDAPError)
        return str(failure.value)

    def test_registered_domain_of_a_host(self):
        client = Client({URL: (200, GOOD)})
        found = self.successResultOf(self.ask(client, "mail.example.org"))
        self.assertEqual(found.isoformat(), "2001-02-03T04:05:06+00:00")
        self.assertEqual(
            client.asked,
            [("GET", BOOTSTRAP, "application/json"), ("GET", URL, "application/rdap+json")],
        )

    def test_unicode(self):
        url = "https://rdap.example/v1/domain/xn--e1afmkfd.xn--p1ai"
        self.assertEqual(self.when({url: (200, GOOD)}, "пример.рф")[:10], "2001-02-03")

    def test_last_registration_counts(self):
        for events, expected in [
            ([("registration", "2020-01-01T00:00:00Z"),
              ("reregistration", "2026-09-01T00:00:00+02:00")], "2026-08-31T22:00:00+00:00"),
            # Not what is still to come; without a zone, it is UTC.
            ([("registration", "2020-01-01T00:00:00"),
              ("reinstantiation", "2026-12-01T00:00:00Z")], "2020-01-01T00:00:00+00:00"),
        ]:  # fmt: skip
            self.assertEqual(self.when({URL: (200, domain(*events))}), expected)

    def test_next_server_after_a_failure(self):
        plain = "http://plain.example/domain/example.org"
        for bad in (HTTPError("no"), (500, b""), (200, b"{")):
            self.assertEqual(self.when({URL: bad, plain: (200, GOOD)})[:4], "2001")

    def test_redirects(self):
        other = "https://other.example/x"
        self.assertEqual(self.when({URL: (302, b"", other), other: (200, GOOD)})[:4], "2001")
        for location, pattern in [
            (URL, "too many redirects"),
            ("http://other.example/x", "redirect to another kind"),
            ("file:///etc/passwd", "redirect to another kind"),
        ]:
            answers = {BOOTSTRAP: ONLY, URL: (301, b"", location)}
            self.assertRegex(self.problem(answers), pattern)

    def test_problems(self):
        said = json.dumps({"title": "Too many", "description": ["try\nlater"]}).encode()
        for name, answers, pattern in [
            ("example.com", {}, "registry of example.com offers no RDAP"),
            ("example.net", {}, "registry of example.net offers no RDAP"),
            ("example.org", {BOOTSTRAP: (500, b"")}, "list of registries: HTTP status 500"),
            ("example.org", {BOOTSTRAP: (200, b"[]")}, "list of registries cannot be read"),
            ("example.org", {BOOTSTRAP: HTTPError("refused")}, "data.iana.org: refused"),
            ("example.org", {BOOTSTRAP: ONLY, URL: (404, b"")}, "example.org is not registered"),
            ("example.org", {BOOTSTRAP: ONLY, URL: (429, said)}, r"429: Too many try\?later"),
            ("example.org", {BOOTSTRAP: ONLY, URL: (503, b"<html>")}, "503$"),
            ("example.org", {BOOTSTRAP: ONLY, URL: (200, domain())}, "does not tell"),
            ("example.org",
             {BOOTSTRAP: ONLY, URL: (200, domain(("registration", "today")))}, "bad date"),
        ]:  # fmt: skip
            self.assertRegex(self.problem(answers, name), pattern)

    def test_longest_suffix(self):
        data = bootstrap(
            [["uk"], ["https://uk.example/"]],
            [["co.uk"], ["https://co.example/"]],
            [["o.uk"], ["https://no.example/"]],
        )
        self.assertEqual(rdap.servers(data, parse_domain("a.co.uk")), ["https://co.example/"])
        self.assertEqual(rdap.servers(data, parse_domain("a.uk")), ["https://uk.example/"])

    def test_no_answer(self):
        work = self.ask(Client({URL: Deferred()}))
        self.assertNoResult(work)
        self.clock.advance(rdap.TIMEOUT)
        self.assertRegex(str(self.failureResultOf(work, RDAPError).value), "within 10 seconds")
