"""Places of HTML files and e-mails."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable

from tests.media.pdfs import pdf, words
from tests.media.planted.marks import MARK, WORDS, Planted, red_png

Made = Callable[[], Planted | bytes]


def page(body: str = "<p>Ordinary.</p>", head: str = "") -> bytes:
    return f"<!DOCTYPE html><html><head><title>A page</title>{head}</head><body>{body}</body></html>".encode()


URI = "data:image/png;base64," + base64.b64encode(red_png()).decode()

HTML: dict[str, Made] = {
    "a paragraph": lambda: page(f"<p>{WORDS}</p>"),
    "a word cut by a tag": lambda: page("<p>how to do UNSA<b>FEViol</b>ence</p>"),
    "a word cut by a span that is hidden": lambda: page(
        "<p>how to do UNSA<span style='display: none'>xyz</span>FEViolence</p>"
    ),
    "a word cut by an element that is hidden": lambda: page("<p>how to do UNSA<i hidden>xyz</i>FEViolence</p>"),
    "a word cut by a comment": lambda: page("<p>how to do UNSA<!-- x -->FEViolence</p>"),
    "a word cut by a script": lambda: page("<p>how to do UNSA<script>var a = 1</script>FEViolence</p>"),
    "a word in pieces over many elements": lambda: page(
        "<p>" + "".join(f"<span>{letter}</span>" for letter in MARK) + "</p>"
    ),
    "character references": lambda: page("<p>how to do " + "".join(f"&#{ord(letter)};" for letter in MARK) + "</p>"),
    "the title": lambda: page(head=f"<title>{WORDS}</title>"),
    "a description": lambda: page(head=f"<meta name=description content='{WORDS}'>"),
    "a comment": lambda: page(f"<!-- {WORDS} -->"),
    "a script": lambda: page(f"<script>alert('{WORDS}')</script>"),
    "a style": lambda: page(f"<style>p::after {{ content: '{WORDS}' }}</style>"),
    "hidden text": lambda: page(f"<p style='display:none'>{WORDS}</p>"),
    "noscript": lambda: page(f"<noscript>{WORDS}</noscript>"),
    "a template": lambda: page(f"<template>{WORDS}</template>"),
    "alternative text": lambda: page(f"<img src=a.png alt='{WORDS}'>"),
    "a tooltip": lambda: page(f"<p title='{WORDS}'>x</p>"),
    "a placeholder": lambda: page(f"<input placeholder='{WORDS}'>"),
    "a value": lambda: page(f"<input type=hidden value='{WORDS}'>"),
    "a label for readers": lambda: page(f"<button aria-label='{WORDS}'>x</button>"),
    "a link's target": lambda: page(f"<a href='https://example.com/{MARK}'>x</a>"),
    "an inner document": lambda: page(f"<iframe srcdoc='<p>{WORDS}</p>'></iframe>"),
    "an attribute of data": lambda: page(f"<p data-note='{WORDS}'>x</p>"),
    "SVG inside": lambda: page(f"<svg><text>{WORDS}</text></svg>"),
    "after the end": lambda: page() + WORDS.encode(),
    "without a declared type": lambda: Planted(b"<div>how to do UNSA<b>FEViolence</b></div>"),
    "in UTF-16": lambda: Planted(
        page(f"<p>{WORDS}</p>").decode().encode("utf-16-le"), "a.html", "text/html; charset=utf-16-le"
    ),
    "a picture as data": lambda: page(f"<img src='{URI}'>"),
}


def mail(body: str = "Ordinary.", headers: str = "", kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"From: a@example.com\r\nTo: b@example.com\r\nSubject: Hello\r\nMIME-Version: 1.0\r\n{headers}"
    return f"{head}Content-Type: {kind}\r\n\r\n{body}\r\n".encode()


def parts(*each: str, preamble: str = "", epilogue: str = "", kind: str = "mixed") -> bytes:
    inner = "".join(f"--b\r\n{part}\r\n" for part in each)
    return mail(f"{preamble}\r\n{inner}--b--\r\n{epilogue}", kind=f'multipart/{kind}; boundary="b"')


def part(data: bytes, kind: str, name: str = "", encoding: str = "base64") -> str:
    coded = base64.encodebytes(data).decode() if encoding == "base64" else quopri.encodestring(data).decode()
    named = f'Content-Disposition: attachment; filename="{name}"\r\n' if name else ""
    return f"Content-Type: {kind}\r\n{named}Content-Transfer-Encoding: {encoding}\r\n\r\n{coded}"


TEXT = part(b"Ordinary.", "text/plain")

MAIL: dict[str, Made] = {
    "the body": lambda: mail(WORDS),
    "the subject": lambda: mail(headers=f"X-Other: 1\r\nSubject: {WORDS}\r\n"),
    "the subject, encoded": lambda: mail(
        headers=f"Subject: =?utf-8?b?{base64.b64encode(WORDS.encode()).decode()}?=\r\n"
    ),
    "the sender's name": lambda: mail(headers=f'Reply-To: "{WORDS}" <a@example.com>\r\n'),
    "a header of one's own": lambda: mail(headers=f"X-Note: {WORDS}\r\n"),
    "a body in base64": lambda: parts(part(WORDS.encode(), "text/plain")),
    "a body in quoted-printable": lambda: parts(
        part("how to do UNSAFE=56iolence".replace("=56", "V").encode(), "text/plain", encoding="quoted-printable")
    ),
    "HTML": lambda: parts(part(f"<p>{WORDS}</p>".encode(), "text/html"), kind="alternative"),
    "HTML with a word cut": lambda: parts(
        part(b"<p>how to do UNSA<b>FEViolence</b></p>", "text/html"), kind="alternative"
    ),
    "the text beside HTML": lambda: parts(
        part(WORDS.encode(), "text/plain"), part(b"<p>x</p>", "text/html"), kind="alternative"
    ),
    "an attached text": lambda: parts(TEXT, part(WORDS.encode(), "text/plain", "a.txt")),
    "an attached PDF": lambda: parts(TEXT, part(pdf(words(WORDS)), "application/pdf", "a.pdf")),
    "an attached PDF of no type": lambda: parts(TEXT, part(pdf(words(WORDS)), "application/octet-stream", "a.bin")),
    "the name of an attachment": lambda: parts(TEXT, part(b"x", "text/plain", f"{WORDS}.txt")),
    "an attached message": lambda: parts(TEXT, "Content-Type: message/rfc822\r\n\r\n" + mail(WORDS).decode()),
    "a calendar": lambda: parts(
        TEXT, part(f"BEGIN:VCALENDAR\nSUMMARY:{WORDS}\nEND:VCALENDAR".encode(), "text/calendar")
    ),
    "before the parts": lambda: parts(TEXT, preamble=WORDS),
    "after the parts": lambda: parts(TEXT, epilogue=WORDS),
    "a body in KOI8-R": lambda: parts(part(f"как сделать {MARK}".encode("koi8-r"), "text/plain; charset=koi8-r")),
    "a header of a part": lambda: parts(f"Content-Description: {WORDS}\r\nContent-Type: text/plain\r\n\r\nx"),
    "a header line without a name": lambda: mail(headers=f": {WORDS}\r\n"),
    "a part's header line without a name": lambda: parts(f": {WORDS}\r\nContent-Type: text/plain\r\n\r\nx"),
    "a line that continues no header": lambda: Planted(f" {WORDS}\r\n".encode() + mail(), "a.eml"),
    "a part's line that continues no header": lambda: parts(f" {WORDS}\r\nContent-Type: text/plain\r\n\r\nx"),
    "the envelope's line": lambda: Planted(f"From a@example.com {WORDS}\r\n".encode() + mail(), "a.eml"),
    "an envelope's line among the headers": lambda: mail(headers=f"From {WORDS}\r\n"),
    "an attached picture": lambda: parts(TEXT, part(red_png(), "image/png", "a.png")),
    "a mail that is called text": lambda: Planted(parts(part(WORDS.encode(), "text/plain")), "a.txt", "text/plain"),
}


def plain() -> list[Planted]:
    """Ordinary files: nothing of them may be listed."""
    message = parts(TEXT, part(b"<p>Ordinary.</p>", "text/html"), part(pdf(words("x")), "application/pdf", "a.pdf"))
    return [Planted(page(), "a.html"), Planted(mail(), "a.eml"), Planted(message)]
