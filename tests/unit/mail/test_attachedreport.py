"""Reports in messages: found, unpacked, bounded."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail import attachedreport
from moxtw.mail.attachedreport import ReportError, dmarc_report, tls_report

XML = b"<?xml version='1.0'?>\n<feedback/>\n"


def zipped(*files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dir/", b"")
        for index, data in enumerate(files):
            archive.writestr(f"dir/{index}.xml", data)
    return out.getvalue()


def part(kind: str, content: bytes) -> bytes:
    head = f"Content-Type: {kind}\r\n" if kind else ""
    return (
        head.encode() + b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(content)
    )


def mixed(*parts: bytes, kind: str = "multipart/mixed") -> bytes:
    body = b"".join(b"--x\r\n" + each + b"\r\n" for each in parts)
    return f"Content-Type: {kind}; boundary=x\r\n\r\n".encode() + body + b"--x--\r\n"


TEXT = b"Content-Type: text/plain\r\n\r\nfor people\r\n"


class DMARCTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for message in (
            part("text/xml", XML),
            part("application/xml; charset=utf-8", XML),
            part("application/gzip", gzip.compress(XML)),
            mixed(TEXT, part("application/x-gzip", gzip.compress(XML))),
            mixed(TEXT, part("application/zip", zipped(XML))),
            mixed(TEXT, part("application/octet-stream", zipped(XML))),
            mixed(TEXT, part("application/octet-stream", gzip.compress(XML))),
            mixed(TEXT, part("application/octet-stream", b"\xef\xbb\xbf" + XML)),
            mixed(mixed(TEXT, part("application/zip", zipped(XML)))),
        ):
            self.assertEqual(dmarc_report(message).removeprefix(b"\xef\xbb\xbf"), XML)

    def test_example_of_a_transport(self) -> None:
        """RFC 7489 B.5: multipart/alternative, and a file name that is folded."""
        message = (
            b"From: dmarc-reporting@mail.receiver.example\r\n"
            b"Date: Fri, Feb 15 2002 16:54:30 -0800\r\n"
            b"To: dmarc-feedback@example.com\r\n"
            b"Subject: Report Domain: example.com\r\n    Submitter: mail.receiver.example\r\n"
            b"    Report-ID: <2002.02.15.1>\r\n"
            b"MIME-Version: 1.0\r\nContent-Type: multipart/alternative;\r\n"
            b'    boundary="----=_NextPart_000_024E_01CC9B0A.AFE54C00"\r\n'
            b"Content-Language: en-us\r\n\r\nThis is a multipart message in MIME format.\r\n\r\n"
            b"------=_NextPart_000_024E_01CC9B0A.AFE54C00\r\n"
            b'Content-Type: text/plain; charset="us-ascii"\r\n'
            b"Content-Transfer-Encoding: 7bit\r\n\r\n"
            b"This is an aggregate report from mail.receiver.example.\r\n\r\n"
            b"------=_NextPart_000_024E_01CC9B0A.AFE54C00\r\nContent-Type: application/gzip\r\n"
            b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n"
            b'    filename="mail.receiver.example!example.com!\r\n'
            b'              1013662812!1013749130.gz"\r\n\r\n'
            + base64.encodebytes(gzip.compress(XML)).replace(b"\n", b"\r\n")
            + b"------=_NextPart_000_024E_01CC9B0A.AFE54C00--\r\n"
        )
        self.assertEqual(dmarc_report(message), XML)

    def test_none(self) -> None:
        for message, why in (
            (b"", "no report"),
            (TEXT, "no report"),
            (mixed(TEXT, TEXT), "no report"),
            (part("application/octet-stream", b"PDF"), "no report"),
            (part("application/zip", zipped()), "0 files"),
            (part("application/zip", zipped(XML, XML)), "2 files"),
            (part("application/zip", zipped(XML)[:-30]), "zip"),
            (part("application/zip", b"x"), "zip"),
            (part("application/gzip", b"x"), "gzip"),
            (part("application/gzip", gzip.compress(XML)[:-12]), "cut off"),
            (b"Content-Type: text/xml\r\nContent-Transfer-Encoding: uu\r\n\r\n" + XML, "uu"),
        ):
            error = self.assertRaises(ReportError, dmarc_report, message)
            self.assertIn(why, str(error))

    def test_bounds(self) -> None:
        zeros = bytes(attachedreport.MAX_REPORT + 1)
        for content, kind in ((gzip.compress(zeros), "gzip"), (zipped(zeros), "zip")):
            error = self.assertRaises(
                ReportError, dmarc_report, part(f"application/{kind}", content)
            )
            self.assertEqual(str(error), "report is too large")
        with patch.object(attachedreport, "MAX_MESSAGE", 10):
            error = self.assertRaises(ReportError, dmarc_report, TEXT)
        self.assertEqual(str(error), "message is too large")

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 400))
    def test_damaged_archives(self, junk: bytes, at: int) -> None:
        data = zipped(XML)
        data = data[:at] + junk + data[at + len(junk) :]
        try:
            self.assertIsInstance(attachedreport.unzip(data), bytes)
        except ReportError as exc:
            self.assertTrue(str(exc))


class TLSTests(SynchronousTestCase):
    def test_forms(self) -> None:
        kind = 'multipart/report; report-type="tlsrpt"'
        for message in (
            part("application/tlsrpt+json", b"{}"),
            part("application/tlsrpt+gzip", gzip.compress(b"{}")),
            mixed(TEXT, part("application/tlsrpt+gzip", gzip.compress(b"{}")), kind=kind),
        ):
            self.assertEqual(tls_report(message), b"{}")

    def test_none(self) -> None:
        inner = part("application/tlsrpt+json", b"{}")
        for message in (
            TEXT,
            mixed(TEXT, inner),
            mixed(TEXT, inner, kind="multipart/report"),
            mixed(TEXT, kind="multipart/report; report-type=tlsrpt"),
            part("application/json", b"{}"),
        ):
            self.assertRaises(ReportError, tls_report, message)
