"""What a file is, by its first bytes; and what is refused because it is not what was announced."""

from __future__ import annotations

from typing import Any

import pytest

from mappings.errors import RejectedError
from mappings.media_types import type_of_media
from mappings.records import Attachment

REST = bytes(300)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + REST
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + REST
GIF = b"GIF89a" + REST
WEBP = b"RIFF\x24\0\0\0WEBPVP8 " + REST
MP4 = b"\0\0\0\x18ftypisom\0\0\0\0mp42isom" + REST
M4A = b"\0\0\0\x18ftypM4A \0\0\0\0mp42isom" + REST
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + REST
OPUS = b"OggS\0\x02" + bytes(20) + b"\x01\x13OpusHead" + REST
AMR = b"#!AMR\n" + REST
CAF = b"caff\0\x01\0\0desc" + REST
SILK = b"\x02#!SILK_V3" + REST
PDF = b"%PDF-1.7\n" + REST
ZIP = b"PK\x03\x04\x14\0" + REST
GZIP = b"\x1f\x8b\x08\0" + REST
PROGRAM = b"MZ\x90\0" + REST
PAGE = b"<!DOCTYPE html><html><head><title>Log in</title>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'


def announced(kind: Any, mime_type: str | None = None, filename: str | None = None) -> Attachment:
    return Attachment(kind=kind, mime_type=mime_type, filename=filename)


@pytest.mark.parametrize(
    ("head", "what", "found"),
    [
        (JPEG, announced("image", "image/jpeg"), "image/jpeg"),
        (PNG, announced("image", "image/jpeg"), "image/png"),
        (HEIC, announced("image"), "image/heic"),
        (WEBP, announced("sticker", "image/webp"), "image/webp"),
        (GZIP, announced("sticker", "application/x-tgsticker"), "application/gzip"),
        (MP4, announced("video", "video/mp4"), "video/mp4"),
        (GIF, announced("video"), "image/gif"),
        (OPUS, announced("audio", "audio/ogg; codecs=opus"), "audio/ogg"),
        (AMR, announced("audio", "audio/amr"), "audio/amr"),
        (M4A, announced("audio"), "audio/mp4"),
        (MP4, announced("audio", "audio/mp4"), "audio/mp4"),
        (CAF, announced("audio"), "audio/x-caf"),
        (SILK, announced("audio"), "audio/silk"),
        (PDF, announced("file", "application/pdf"), "application/pdf"),
        (PDF, announced("file"), "application/pdf"),
        (b"a,b\n1,2\n", announced("file", None, "orders.csv"), "text/csv"),
        (b"nobody knows", announced("file"), "application/octet-stream"),
        (b"nobody knows", announced("file", "nonsense"), "application/octet-stream"),
        (ZIP, announced("file", "application/vnd.oasis.opendocument.text"), "application/vnd.oasis.opendocument.text"),
        (PROGRAM, announced("file", "application/octet-stream", "setup"), "application/x-msdownload"),
        (PAGE, announced("file", "text/html"), "text/html"),
        (PAGE, announced("file", None, "page.html"), "text/html"),
        (SVG, announced("file", "image/svg+xml"), "image/svg+xml"),
    ],
)
def test_a_file_that_is_what_was_announced_has_its_type(head: bytes, what: Attachment, found: str) -> None:
    assert type_of_media(head, what) == found


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"", announced("image")),
        (PAGE, announced("image", "image/png")),
        (b"\xef\xbb\xbf \n <HTML>", announced("image")),
        (PAGE.decode().encode("utf-16"), announced("image")),
        (b"<!-- x --><script>", announced("image")),
        (SVG, announced("image", "image/svg+xml")),
        (b'<?xml version="1.0"?><svg/>', announced("sticker")),
        (b'{"error":{"code":190}}', announced("image", "image/png")),
        (MP4, announced("image")),
        (JPEG, announced("audio")),
        (PNG, announced("video")),
        (PROGRAM, announced("sticker")),
        (PAGE, announced("file", "application/pdf")),
        (PAGE, announced("file", None, "invoice.pdf")),
        (PROGRAM, announced("file", "application/pdf", "invoice.pdf")),
        (PROGRAM, announced("file", None, "holiday.jpg")),
    ],
)
def test_a_file_that_is_something_else_is_refused(head: bytes, what: Attachment) -> None:
    with pytest.raises(RejectedError):
        type_of_media(head, what)


def test_a_page_that_nobody_announced_is_taken_for_a_login_page_where_the_server_calls_it_a_page() -> None:
    with pytest.raises(RejectedError, match="web page"):
        type_of_media(PAGE, announced("file"), "text/html; charset=utf-8")
    assert type_of_media(PAGE, announced("file"), "application/octet-stream") == "text/html"
