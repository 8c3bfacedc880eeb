"""Routes and transports."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from moxtw.queue.delivery import DeliveryError
from moxtw.queue.routes import matches, transport_for
from tests.unit.queue.support import DYNAMIC, STATIC, FixedConfig

TRANSPORTS = STATIC + """\
Transports:
	a:
		Fail:
			SMTPCode: 550
	d:
		Direct:
			DisableIPv6: true
	g:
		Fail:
			SMTPMessage: no
"""
ROUTES = (
    DYNAMIC.replace(
        "\t\tLocalpartCatchallSeparator: +\n",
        "\t\tLocalpartCatchallSeparator: +\n\t\tRoutes:\n\t\t\t-\n"
        "\t\t\t\tToDomain:\n\t\t\t\t\t- .dom.example\n\t\t\t\tTransport: d\n",
    ).replace(
        "\t\tKeepRetiredMessagePeriod: 72h\n",
        "\t\tKeepRetiredMessagePeriod: 72h\n\t\tRoutes:\n\t\t\t-\n"
        "\t\t\t\tMinimumAttempts: 2\n\t\t\t\tTransport: a\n",
    )
    + "Routes:\n\t-\n\t\tFromDomain:\n\t\t\t- .\n\t\tTransport: g\n"
)


class Matching(SynchronousTestCase):
    def test_patterns(self) -> None:
        for pattern, domain, expected in (
            ("a.example", "a.example", True),
            ("a.example", "b.a.example", False),
            (".a.example", "a.example", True),
            (".a.example", "b.a.example", True),
            (".a.example", "ba.example", False),
            (".", "", True),
            (".", "a.example", False),
            ("a.example", "", False),
        ):
            self.assertEqual(matches([pattern], domain), expected, (pattern, domain))


class Choosing(SynchronousTestCase):
    def choose(self, recipient: str = "x.dom.example", **more: object) -> str:
        values: dict[str, object] = {
            "account": "me",
            "sender_domain": "example.org",
            "attempts": 0,
            "explicit": "",
            **more,
        }
        config = FixedConfig(ROUTES, TRANSPORTS)
        name, transport = transport_for(config, recipient_domain=recipient, **values)  # type: ignore[arg-type]
        self.assertEqual(transport, config.static.transports.get(name))
        return name

    def test_order_of_lists(self) -> None:
        self.assertEqual(self.choose(), "d")
        self.assertEqual(self.choose(attempts=2), "a")
        self.assertEqual(self.choose(account="other", attempts=2), "d")
        self.assertEqual(self.choose("else.example"), "")
        self.assertEqual(self.choose("else.example", sender_domain=""), "g")
        self.assertEqual(self.choose("[127.0.0.1]"), "")

    def test_explicit_transport(self) -> None:
        self.assertEqual(self.choose(explicit="g"), "g")
        with self.assertRaises(DeliveryError) as caught:
            self.choose(explicit="gone")
        self.assertFalse(caught.exception.permanent)
