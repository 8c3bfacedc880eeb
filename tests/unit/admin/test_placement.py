import ipaddress

from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin.placement import NoAddress, place

LOOPBACK = ("127.0.0.1", "::1")


class PlacementTests(SynchronousTestCase):
    def place(self, machine, host=(), named=()):
        found = [ipaddress.ip_address(ip) for ip in (*LOOPBACK, *machine, "fe80::1")]
        return place(found, host, named)

    def test_cases(self):
        for machine, host, named, listen, outside, nat, unknown, problems in [
            # What DNS has and the machine too.
            (("192.0.2.1", "2001:db8::1"), ("192.0.2.1", "2001:db8::1"), (),
             ("192.0.2.1", "2001:db8::1"), ("192.0.2.1", "2001:db8::1"), False, False, ()),
            # Of several addresses those of the name.
            (("192.0.2.1", "192.0.2.2"), ("192.0.2.2",), (),
             ("192.0.2.2",), ("192.0.2.2",), False, False, ()),
            # A private network may have names too.
            (("192.0.2.1", "fd00::2"), ("192.0.2.1", "fd00::2"), (),
             ("192.0.2.1", "fd00::2"), ("192.0.2.1", "fd00::2"), False, False, ()),
            # Nothing in DNS yet.
            (("192.0.2.1", "fd00::2"), (), (), ("192.0.2.1",), ("192.0.2.1",), False, False, ()),
            (("192.0.2.1", "10.0.0.1"), ("127.0.1.1",), (),
             ("192.0.2.1",), ("192.0.2.1",), False, False, ("does not lead to 192.0.2.1",)),
            # NAT, for one of both, and for all.
            (("10.0.0.1", "2001:db8::1"), ("192.0.2.9", "2001:db8::1"), (),
             ("10.0.0.1", "2001:db8::1"), ("192.0.2.9", "2001:db8::1"), True, False, ()),
            (("10.0.0.1",), ("192.0.2.9",), (), ("10.0.0.1",), ("192.0.2.9",), True, False, ()),
            (("10.0.0.1",), (), (), ("10.0.0.1",), (), True, True, ()),
            # DNS leads elsewhere, or to more than there is.
            (("192.0.2.1",), ("192.0.2.9",), (), ("192.0.2.1",), ("192.0.2.1",), False, False,
             ("DNS leads to 192.0.2.9, .*it has 192.0.2.1", "does not lead to 192.0.2.1")),
            (("192.0.2.1",), ("192.0.2.1", "192.0.2.9"), (),
             ("192.0.2.1",), ("192.0.2.1",), False, False, ("DNS leads to 192.0.2.9",)),
            (("192.0.2.1",), ("192.0.2.1", "2001:db8::9"), (),
             ("192.0.2.1",), ("192.0.2.1",), False, False, ("DNS leads to 2001:db8::9",)),
            # Addresses that were named.
            (("192.0.2.1", "192.0.2.2"), ("192.0.2.2",), ("192.0.2.2",),
             ("192.0.2.2",), ("192.0.2.2",), False, False, ()),
            (("10.0.0.1", "10.0.0.2"), ("192.0.2.9",), ("10.0.0.2",),
             ("10.0.0.2",), ("192.0.2.9",), True, False, ()),
            ((), ("127.0.0.2",), ("127.0.0.2",),
             ("127.0.0.2",), ("127.0.0.2",), False, False, ()),
        ]:  # fmt: skip
            found = self.place(machine, host, named)
            case = (machine, host, named, found)
            self.assertEqual(found.listen, listen, case)
            self.assertEqual(found.outside, outside, case)
            self.assertEqual((found.nat, found.unknown_nat), (nat, unknown), case)
            self.assertEqual(found.internal, LOOPBACK)
            self.assertEqual(len(found.problems), len(problems), case)
            for text, pattern in zip(found.problems, problems, strict=True):
                self.assertRegex(text, pattern)

    def test_nothing_to_listen_on(self):
        for host in ((), ("192.0.2.1",)):
            self.assertRaises(NoAddress, self.place, (), host)

    def test_machine_without_ipv6(self):
        found = place([ipaddress.ip_address(ip) for ip in ("127.0.0.1", "192.0.2.1")], ())
        self.assertEqual(found.internal, ("127.0.0.1",))
