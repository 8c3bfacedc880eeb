"""imaplib and smtplib of Python's standard library as clients."""

import imaplib
import smtplib
import ssl
import time

from tests.support.server import CLIENT_SECONDS, PASSWORD, LiveCase, expect_ok, free_port, smarthost

USER = "mjl@a.example"

MESSAGE = (
    b"From: <mjl@a.example>\r\nTo: <mjl@a.example>\r\nSubject: from python %d\r\n"
    b"Message-ID: <python%d@a.example>\r\n\r\nline one\r\n.line two with a dot\r\n..\r\n"
)


class SMTPTests(LiveCase):
    def test_delivery(self):
        server = self.mail_server()
        for number, tls in enumerate((False, True)):
            with smtplib.SMTP(server.ip, server.ports.smtp, timeout=CLIENT_SECONDS) as client:
                if tls:
                    client.starttls(context=self.context(server))
                client.ehlo("client.example")
                self.assertIn("pipelining", client.esmtp_features)
                client.sendmail(
                    "sender@b.example",
                    [USER],
                    MESSAGE % (number, number),
                    mail_options=["BODY=8BITMIME"],
                )
            got = server.wait_message(b"<python%d@" % number)
            self.assertIn(b"\r\nReturn-Path: <sender@b.example>\r\n", got)
            self.assertIn(b"\r\nAuthentication-Results: mail.a.example;\r\n\tiprev=pass", got)
            self.assertEqual(got.partition(b"\r\n\r\n")[2], MESSAGE.partition(b"\r\n\r\n")[2])
            kind = b"with ESMTPS " if tls else b"with ESMTP "
            self.assertIn(kind, b" ".join(got.split()))
        self.finish(server)

    def context(self, server):
        context = server.trust()
        # smtplib and imaplib name the address that they connect to.
        context.check_hostname = False
        self.assertIs(context.verify_mode, ssl.CERT_REQUIRED)
        return context

    def test_submission_with_each_mechanism(self):
        port = free_port()
        server = self.mail_server(smtp_port=port, **smarthost(port))
        context = self.context(server)
        for number, mechanism in enumerate(("CRAM-MD5", "PLAIN", "LOGIN")):
            for tls in ("none", "starttls", "immediate"):
                if tls == "immediate":
                    client = smtplib.SMTP_SSL(
                        server.ip, server.ports.submissions, timeout=20, context=context
                    )
                else:
                    client = smtplib.SMTP(server.ip, server.ports.submission, timeout=20)
                with client:
                    if tls == "starttls":
                        client.starttls(context=context)
                    client.ehlo("client.example")
                    client.user, client.password = USER, PASSWORD
                    method = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))
                    client.auth(mechanism, method)
                    client.sendmail(USER, [USER], MESSAGE % (number, number))
            server.wait_messages(b"<python%d@" % number, 3)
        with smtplib.SMTP(server.ip, server.ports.submission, timeout=20) as client:
            client.ehlo("client.example")
            with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                # Only once: connections that fail repeatedly are slowed down.
                client.auth("PLAIN", lambda challenge=None: f"\0{USER}\0{PASSWORD}x")
            self.assertEqual(caught.exception.smtp_code, 535)
            self.assertEqual(client.mail(USER)[0], 530)
        self.finish(server)


class IMAPTests(LiveCase):
    def test_a_day_with_imaplib(self):
        server = self.mail_server()
        context = server.trust()
        client = imaplib.IMAP4_SSL("localhost", server.ports.imaps, ssl_context=context)
        expect_ok(client.login(USER, PASSWORD))
        self.day(client)
        client = imaplib.IMAP4("localhost", server.ports.imap, timeout=CLIENT_SECONDS)
        expect_ok(client.starttls(context))
        expect_ok(client.login_cram_md5(USER, PASSWORD))
        self.assertEqual(expect_ok(client.select("INBOX")), [b"2"])
        client.logout()
        with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
            server.imap(password=PASSWORD + "x")
        self.finish(server)

    def day(self, client):
        for name in ("INBOX", "Drafts", "Sent", "Trash", "Archive", "Junk"):
            expect_ok(client.status(name, "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))
        expect_ok(client.create('"Projects/House of cards"'))
        names = b"\n".join(expect_ok(client.list()))
        self.assertIn(b'"Projects/House of cards"', names)
        expect_ok(client.subscribe("Projects"))
        moment = time.time() - 86400
        for number in range(5):
            data = expect_ok(client.append("INBOX", r"(\Seen)", moment, MESSAGE % (number, number)))
            self.assertIn(b"APPENDUID", data[0])
        self.assertEqual(expect_ok(client.select("INBOX")), [b"5"])
        (found,) = expect_ok(client.search(None, "SUBJECT", '"from python 3"'))
        self.assertEqual(found, b"4")
        (found,) = expect_ok(client.uid("SEARCH", "ALL", "SEEN"))
        uids = found.split()
        self.assertEqual(len(uids), 5)
        data = expect_ok(client.uid("FETCH", uids[0], "(FLAGS RFC822.SIZE ENVELOPE BODY.PEEK[])"))
        self.assertEqual(data[0][1], MESSAGE % (0, 0))
        self.assertIn(b"RFC822.SIZE %d" % len(MESSAGE % (0, 0)), data[0][0])
        data = expect_ok(client.fetch("1", "(BODY[HEADER.FIELDS (SUBJECT)] BODY[TEXT]<5.3>)"))
        self.assertEqual(data[0][1], b"Subject: from python 0\r\n\r\n")
        self.assertEqual(data[1][1], b"one")
        expect_ok(client.store("1:2", "+FLAGS", r"(\Flagged $Label1)"))
        (found,) = expect_ok(client.search(None, "KEYWORD", "$Label1"))
        self.assertEqual(found, b"1 2")
        expect_ok(client.copy("1:3", '"Projects/House of cards"'))
        expect_ok(client.uid("MOVE", uids[4], '"Projects/House of cards"'))
        expect_ok(client.store("1,3", "+FLAGS.SILENT", r"(\Deleted)"))
        expect_ok(client.expunge())
        (found,) = expect_ok(client.uid("SEARCH", "ALL"))
        self.assertEqual(found.split(), [uids[1], uids[3]])
        (status,) = expect_ok(client.status('"Projects/House of cards"', "(MESSAGES UNSEEN)"))
        self.assertIn(b"MESSAGES 4", status)
        expect_ok(client.rename("Projects", "Old"))
        expect_ok(client.select('"Old/House of cards"', readonly=True))
        self.assertEqual(client.store("1", "+FLAGS", r"(\Seen)")[0], "NO")
        expect_ok(client.close())
        expect_ok(client.delete('"Old/House of cards"'))
        self.assertEqual(client.select('"Old/House of cards"')[0], "NO")
        expect_ok(client.noop())
        client.logout()
