"""neomutt sends over SMTP, and reads, flags, moves and adds messages over IMAP."""

import mailbox
from pathlib import Path

from tests.support.peers import need, run, run_on_terminal
from tests.support.server import PASSWORD, LiveCase, free_port, smarthost

USER = "mjl@a.example"

CONFIG = """
set from="{user}" realname="Jürgen M." use_envelope_from envelope_from_address="{user}"
set hostname="client.example"
set smtp_url="{smtp}" smtp_pass="{password}"
set imap_user="{user}" imap_pass="{password}"
set folder="{imap}" spoolfile="{imap}INBOX" record="{imap}Sent" postponed="{imap}Drafts"
set certificate_file="{certificate}" ssl_force_tls ssl_verify_host
# With its GSASL it picks SCRAM-...-PLUS, for which it has no channel binding.
set smtp_authenticators="{mechanism}" imap_authenticators="{mechanism}"
set sleep_time=0 wait_key=no confirmappend=no confirmcreate=no beep=no
set move=no delete=yes mark_old=no imap_passive=no quit=yes
set header_cache="{home}/cache" message_cachedir="{home}/bodies"
set mbox_type=Maildir charset="utf-8" send_charset="utf-8"
"""


class NeomuttTests(LiveCase):
    def setUp(self):
        need("neomutt")
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()

    def configure(self, server, *, immediate):
        ports = server.ports
        if immediate:
            smtp = f"smtps://mjl%40a.example@localhost:{ports.submissions}/"
            imap = f"imaps://localhost:{ports.imaps}/"
        else:
            smtp = f"smtp://mjl%40a.example@localhost:{ports.submission}/"
            imap = f"imap://localhost:{ports.imap}/"
        path = self.home / "neomuttrc"
        path.write_text(
            CONFIG.format(
                user=USER,
                password=PASSWORD,
                mechanism="login" if immediate else "plain",
                smtp=smtp,
                imap=imap,
                certificate=server.certificate,
                home=self.home,
            )
        )
        self.env = {"HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        self.command = ("neomutt", "-n", "-F", path)

    def keys(self, folder, keys):
        """Open a folder and press keys, then leave with changes written."""
        return run_on_terminal(
            [*self.command, "-f", folder, "-e", f'push "{keys}<quit>"'], env=self.env
        )

    def test_send_and_read(self):
        port = free_port()
        server = self.mail_server(smtp_port=port, **smarthost(port))
        attachment = self.home / "note.txt"
        attachment.write_text("an attachment, größer\n")
        for immediate in (True, False):
            self.configure(server, immediate=immediate)
            subject = f"grüße {'immediate' if immediate else 'starttls'}"
            run(
                [*self.command, "-s", subject, "-a", attachment, "--", USER],
                data="text with ümlaut\nFrom here\n.\n".encode(),
                env=self.env,
            )
        received = server.wait_messages(b"Subject: =?utf-8?", 2)
        for message in received:
            self.assertIn(b"Content-Disposition: attachment; filename=\"note.txt\"", message)

        copy = self.home / "copy"
        self.keys(
            "=INBOX",
            "<tag-pattern>~A<enter><tag-prefix><copy-message>"
            f"<kill-line>{copy}<enter><first-entry><flag-message><next-entry><delete-message>",
        )
        box = mailbox.Maildir(copy, create=False)
        self.assertEqual(len(box), 2)
        for message in box:
            text, part = message.get_payload()
            self.assertEqual(
                text.get_payload(decode=True).decode(), "text with ümlaut\nFrom here\n.\n"
            )
            self.assertEqual(part.get_payload(decode=True).decode(), attachment.read_text())
        box.close()
        client = server.imap()
        client.select("INBOX", readonly=True)
        _, data = client.fetch("1:*", "(FLAGS)")
        self.assertEqual(len(data), 1)
        self.assertIn(b"\\Flagged", data[0])
        # Over to another mailbox.
        self.keys("=INBOX", "<save-message><kill-line>=Archive<enter><sync-mailbox>")
        server.wait_message(b"Subject: =?utf-8?", mailbox="Archive")
        client.noop()
        self.assertEqual(client.search(None, "ALL")[1], [b""])
        client.logout()
        # From a file into a mailbox.
        self.keys(
            str(copy), "<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>=Drafts<enter>"
        )
        uploaded = server.wait_messages(b"Subject: =?utf-8?", 2, mailbox="Drafts")
        self.assertEqual(
            sorted(data.partition(b"\r\n\r\n")[2] for data in uploaded),
            sorted(data.partition(b"\r\n\r\n")[2] for data in received),
        )
        self.finish(server)
