"""curl submits over SMTP and reads over IMAP."""

from pathlib import Path

from tests.support.peers import curl, need
from tests.support.server import PASSWORD, LiveCase, free_port, smarthost

USER = "mjl@a.example"

MESSAGE = (
    b"From: <mjl@a.example>\r\nTo: <mjl@a.example>\r\nSubject: %(name)s\r\n"
    b"Message-ID: <%(name)s@a.example>\r\n\r\nby curl\r\n.dot\r\n"
)


class CurlTests(LiveCase):
    def setUp(self):
        need("curl")
        super().setUp()
        self.login = ("--user", f"{USER}:{PASSWORD}")

    def file(self, name):
        path = Path(self.mktemp())
        path.write_bytes(MESSAGE % {b"name": name.encode()})
        return path

    def test_submission(self):
        port = free_port()
        server = self.mail_server(smtp_port=port, **smarthost(port))
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            for name, url in (
                ("submission", f"smtp://localhost:{server.ports.submission}/client.example"),
                ("submissions", f"smtps://localhost:{server.ports.submissions}/client.example"),
            ):
                subject = f"{name}.{mechanism}"
                curl(
                    *(url, "--ssl-reqd", "--mail-from", USER, "--mail-rcpt", USER),
                    *(*self.login, "--login-options", f"AUTH={mechanism}"),
                    *("--upload-file", self.file(subject)),
                    certificate=server.certificate,
                )
                got = server.wait_message(b"<%s@" % subject.encode())
                self.assertTrue(got.endswith(b"\r\n\r\nby curl\r\n.dot\r\n"))
        self.finish(server)

    def test_imap(self):
        server = self.mail_server()
        ways = {
            "imaps": f"imaps://localhost:{server.ports.imaps}",
            "starttls": f"imap://localhost:{server.ports.imap}",
        }
        for number, (name, url) in enumerate(ways.items(), 1):

            def fetch(path, *args, url=url):
                return curl(
                    *(f"{url}/{path}", "--ssl-reqd", *self.login, *args),
                    certificate=server.certificate,
                )

            self.assertIn(b'"/" Sent', fetch(""))
            fetch("INBOX", "--upload-file", self.file(name))
            self.assertIn(b"SEARCH %d" % number, fetch("INBOX?SUBJECT%20" + name))
            uid = fetch("INBOX", "-X", f"UID SEARCH SUBJECT {name}").split()[-1].decode()
            message = MESSAGE % {b"name": name.encode()}
            self.assertEqual(fetch(f"INBOX;UID={uid}"), message)
            head = message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            self.assertEqual(fetch(f"INBOX;UID={uid};SECTION=HEADER"), head)
            fetch("INBOX", "-X", f"STORE {number} +FLAGS.SILENT (\\Flagged)")
            self.assertIn(b"\\Flagged", fetch("INBOX", "-X", f"FETCH {number} (FLAGS)"))
            for mechanism in ("PLAIN", "CRAM-MD5"):
                output = fetch("", "-X", "NAMESPACE", "--login-options", f"AUTH={mechanism}")
                self.assertIn(b"NAMESPACE", output)
        self.finish(server)
