"""swaks delivers and submits: in clear, with STARTTLS, with TLS from the start."""

from tests.support.peers import need, swaks
from tests.support.server import PASSWORD, LiveCase, free_port, smarthost

USER = "mjl@a.example"

BODY = "Subject: {0}\nMessage-ID: <{0}@client.example>\nFrom: {1}\nTo: {2}\n\nby swaks\n.\n..dots"


class SwaksTests(LiveCase):
    def setUp(self):
        need("swaks")
        super().setUp()

    def send(self, server, port, name, *args, sender="sender@b.example", **options):
        return swaks(
            *("--server", "localhost", "--port", str(port), "--helo", "client.example"),
            *("--from", sender, "--to", USER, "--data", BODY.format(name, sender, USER)),
            *args,
            **options,
        )

    def test_delivery(self):
        server = self.mail_server()
        verified = ("--tls-verify", "--tls-ca-path", str(server.certificate))
        ways = {
            "plain": (),
            "starttls": ("--tls", *verified),
            "tls12": ("--tls", "--tls-protocol", "tlsv1_2"),
            "pipelined": ("--pipeline",),
            "helo": ("--protocol", "SMTP"),
        }
        for name, args in ways.items():
            transcript = self.send(server, server.ports.smtp, name, *args)
            self.assertRegex(transcript, r"<[-~*]+ +250 2\.\d\.\d ")
            got = server.wait_message(b"<%s@client.example>" % name.encode())
            self.assertTrue(got.endswith(b"\r\n\r\nby swaks\r\n.\r\n..dots\r\n"), got[-60:])
        # Unknown recipients are told of after DATA, relaying is refused.
        transcript = self.send(
            server, server.ports.smtp, "relay", "--to", "x@elsewhere.example", status=None
        )
        self.assertRegex(transcript, r"<\*\* +550 5\.\d\.\d ")
        self.assertNotIn(b"<relay@", b"".join(server.messages()))
        self.finish(server)

    def test_submission(self):
        port = free_port()
        server = self.mail_server(smtp_port=port, **smarthost(port))
        verified = ("--tls-verify", "--tls-ca-path", str(server.certificate))
        ways = {
            "starttls": (server.ports.submission, ("--tls", *verified)),
            "immediate": (server.ports.submissions, ("--tls-on-connect", *verified)),
        }
        login = ("--auth-user", USER, "--auth-password", PASSWORD)
        for way, (at, args) in ways.items():
            for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
                name = f"{way}.{mechanism}".lower()
                transcript = self.send(
                    server, at, name, "--auth", mechanism, *login, *args, sender=USER
                )
                self.assertRegex(transcript, r"<[-~*]+ +235 2\.7\.0 ")
                got = server.wait_message(b"<%s@client.example>" % name.encode())
                self.assertIn(b"by swaks\r\n", got)
        # Another's address is not for this user.
        transcript = self.send(
            server, server.ports.submissions, "other", "--auth", "PLAIN", *login,
            "--tls-on-connect", sender="other@a.example", status=None,
        )  # fmt: skip
        self.assertRegex(transcript, r"<[-~]?\*\*? +550 5\.7\.1 ")
        transcript = self.send(
            server, server.ports.submissions, "bad", "--auth", "CRAM-MD5", "--auth-user", USER,
            "--auth-password", "wrong", "--tls-on-connect", sender=USER, status=28,
        )  # fmt: skip
        self.assertRegex(transcript, r" 535 5\.7\.8 ")
        self.finish(server)
