"""Forms in request bodies, and media types by content."""

from __future__ import annotations

import contextlib
import io
import tempfile
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.web.webapi import formdata
from moxtw.web.webapi.formdata import FormError, parse_form
from moxtw.web.webapi.sniff import sniff

URLENCODED = "application/x-www-form-urlencoded"


def multipart(*parts: tuple[bytes, bytes], boundary: bytes = b"XX", end: bytes = b"") -> bytes:
    body = b"".join(
        b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, header, data) for header, data in parts
    )
    return body + b"--%s--" % boundary + end


def field(name: str, **params: str) -> bytes:
    more = "".join(f'; {key}="{value}"' for key, value in params.items())
    return f'Content-Disposition: form-data; name="{name}"{more}'.encode()


class UrlencodedTests(SynchronousTestCase):
    def parse(self, body: bytes) -> dict[str, list[bytes]]:
        return parse_form(URLENCODED, io.BytesIO(body)).fields

    def test_fields(self) -> None:
        self.assertEqual(
            self.parse(b"a=1+2&b=%7B%22x%22%7D&a=&c&&%C3%A9=%zz"),
            {"a": [b"1 2", b""], "b": [b'{"x"}'], "c": [b""], "é": [b"%zz"]},
        )
        self.assertEqual(self.parse(b""), {})

    def test_too_many(self) -> None:
        with self.assertRaises(FormError):
            self.parse(b"a=1&" * 1001)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300), st.integers(min_value=1, max_value=9))
    def test_steps_do_not_cut_escapes(self, data: bytes, step: int) -> None:
        before = formdata._STEP
        try:
            formdata._STEP = step + 3  # type: ignore[misc]
            self.assertEqual(bytes(formdata._unquoted(memoryview(quote_plus(data).encode()))), data)
        finally:
            formdata._STEP = before  # type: ignore[misc]


class MultipartTests(SynchronousTestCase):
    def parse(self, body: bytes, boundary: str = "XX") -> Any:
        kind = f'multipart/form-data; boundary="{boundary}"'
        form = parse_form(kind, io.BytesIO(body))
        with tempfile.TemporaryFile() as file:
            # The same from a file, as larger bodies are.
            file.write(body)
            file.flush()
            if body:
                other = parse_form(kind, SimpleNamespace(file=file, seek=file.seek))
                self.assertEqual(other.fields, form.fields)
                self.assertEqual(other.files, form.files)
        return form

    def test_fields_and_files(self) -> None:
        form = self.parse(
            b"preamble\r\n"
            + multipart(
                (field("request"), b'{"To": []}'),
                (
                    field("attachedfile", filename="a b.txt")
                    + b"\r\nContent-Type: text/plain\r\nContent-ID: <x@y>",
                    b"line\r\n--X\r\n\r\n",
                ),
                (field("attachedfile", filename='q\\"%22.bin'), b""),
                end=b"\r\nepilogue",
            )
        )
        self.assertEqual(form.fields, {"request": [b'{"To": []}']})
        first, second = form.files["attachedfile"]
        self.assertEqual(
            (first.name, first.content_type, first.content_id, bytes(first.data)),
            ("a b.txt", "text/plain", "<x@y>", b"line\r\n--X\r\n\r\n"),
        )
        self.assertEqual((second.name, bytes(second.data)), ('q"".bin', b""))

    def test_part_without_header_has_no_name(self) -> None:
        with self.assertRaisesRegex(FormError, "without a name"):
            self.parse(b"--XX\r\n\r\ndata\r\n--XX--")

    def test_malformed(self) -> None:
        good = multipart((field("request"), b"data"))
        for body in [
            b"",
            b"nothing",
            b"--XX",
            good[:-2],
            good[:-10],
            b"--XX\r\n" + field("a") + b"\r\n--XX--",
            b"--XXjunk\r\n\r\n\r\n--XX--",
            multipart((b"Content-Disposition: attachment; name=x", b"")),
            multipart((b"Content-Disposition: form-data", b"")),
            multipart((b"X: " + b"x" * 20_000, b"")),
            multipart(*[(field("a"), b"")] * 1001),
        ]:
            with self.assertRaises(FormError):
                self.parse(body)
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "x" * 71,
            'multipart/form-data; boundary="a\x00b"',
            "multipart/mixed; boundary=XX",
            "application/json",
            "",
        ]:
            with self.assertRaises(FormError):
                parse_form(kind, io.BytesIO(good))

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        b"--XX",
                        b"\r\n--XX",
                        b"\r\n",
                        b"--",
                        b'Content-Disposition: form-data; name="a"',
                    ]
                ),
                st.binary(max_size=6),
            ),
            max_size=12,
        )
    )
    def test_hostile_bodies(self, pieces: list[bytes]) -> None:
        with contextlib.suppress(FormError):
            self.parse(b"".join(pieces))


class SniffTests(SynchronousTestCase):
    def test_types(self) -> None:
        for data, kind in [
            (b"", "application/octet-stream"),
            (b"plain \xc3\xa9\n", "text/plain; charset=utf-8"),
            (b"\x00\x01", "application/octet-stream"),
            (b"  <!DOCTYPE html>", "text/html; charset=utf-8"),
            (b"<html>", "text/html; charset=utf-8"),
            (b"<htmlx>", "text/plain; charset=utf-8"),
            (b"<?xml version='1.0'?>", "text/xml; charset=utf-8"),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x89PNG\r\n\x1a\n....", "image/png"),
            (b"RIFF\x00\x00\x00\x00WEBPVP", "image/webp"),
            (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
            (b"PK\x03\x04", "application/zip"),
            (b"\xff\xfea\x00", "text/plain; charset=utf-16le"),
        ]:
            self.assertEqual(sniff(data), kind, data)
