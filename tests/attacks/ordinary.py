"""Ordinary writing, by kind. Written for these tests, or taken from this repository."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import uuid
from pathlib import Path
from typing import Final

from turnguard.text.messages import LANGUAGES, builtin

ROOT: Final = Path(__file__).parents[2]
_CHANCE: Final = random.Random(17)  # noqa: S311 - the same pieces every time


def _hashes() -> list[str]:
    pieces = []
    for number in range(40):
        data = str(number).encode()
        pieces += [
            f"md5 {hashlib.md5(data).hexdigest()}  release-{number}.tar.gz",  # noqa: S324
            f"sha256:{hashlib.sha256(data).hexdigest()}",
            f'ETag: "{hashlib.sha1(data).hexdigest()}"',  # noqa: S324
            f"id={uuid.UUID(bytes=hashlib.md5(data).digest())}",  # noqa: S324
            f"integrity sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}",
            f"AWS4-HMAC key AKIA{base64.b32encode(hashlib.md5(data).digest()).decode()[:16]}",  # noqa: S324
            f"session={base64.urlsafe_b64encode(_CHANCE.randbytes(24)).decode()}; Path=/; HttpOnly",
        ]
    return pieces


def _pictures() -> list[str]:
    return [
        f"![chart {number}](data:image/png;base64,{base64.b64encode(_CHANCE.randbytes(1800)).decode()})"
        for number in range(10)
    ]


def _logs() -> list[str]:
    pieces = []
    for number in range(20):
        address = ".".join(str(_CHANCE.randrange(256)) for _ in range(4))
        token = _CHANCE.randbytes(6).hex()
        pieces += [
            f"2026-11-30T12:{number:02}:01.{number:03}Z INFO [worker-{number}] request {token} GET /v1/items/{number}?page=2&sort=-created HTTP/1.1 200 {number * 37}ms from {address}",
            f'{address} - - [30/Nov/2026:12:00:{number:02} +0000] "POST /api/login HTTP/1.1" 401 {number} "-" "Mozilla/5.0 (X11; Linux x86_64)"',
            f"Nov 30 12:00:{number:02} host{number} kernel: [ {number}.{number:06}] usb 1-{number}: new high-speed USB device number {number} using xhci_hcd",
            f"E1130 12:00:01.{number:06} {number} controller.go:{number}] Unable to sync pod default/web-6d4cf56db6-{token[:5]}: context deadline exceeded",
        ]
    return pieces


def _tables() -> list[str]:
    rows = [
        f"{number},{_CHANCE.random():.4f},{_CHANCE.randrange(10**6)},2026-11-{number:02},A{number:03},x,y"
        for number in range(1, 30)
    ]
    return [
        "id,value,count,day,code,a,b\n" + "\n".join(rows),
        "\t".join("ABCDEFGHIJ")
        + "\n"
        + "\n".join("\t".join(str(_CHANCE.randrange(100)) for _ in range(10)) for _ in range(20)),
        "| x | y | z |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |",
        "phone;fax\n+49 30 12345678;+49 (0)30 1234-5679\n4111 1111 1111 1111;5500 0000 0000 0004",
    ]


EMOJI: Final = [
    "Great job! 👍🏽 🎉🎉 ❤️‍🔥",
    "👨‍👩‍👧‍👦 and 👩🏽‍🚀 went to 🏴󠁧󠁢󠁥󠁮󠁧󠁿, 🏴󠁧󠁢󠁳󠁣󠁴󠁿 and 🏴󠁧󠁢󠁷󠁬󠁳󠁿",
    "🇩🇪🇫🇷🇮🇹 🇪🇺 🇺🇳 won, 🇧🇷 vs. 🇦🇷",
    "1️⃣ first 2️⃣ second #️⃣ 🔟",
    "🏳️‍🌈🏳️‍⚧️ ✈️ ☎️ ℹ️ Ⓜ️ 🅿️ 🆗 🆕 ™️ ©️",
    "(╯°□°)╯︵ ┻━┻  ¯\\_(ツ)_/¯  ʕ•ᴥ•ʔ",
    "★☆★ ♪♫ ✓✗ → ⇒ ↔ • · …",
]
MATHEMATICS: Final = [
    "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−f(a)|<ε",
    "E = mc², a² + b² = c², x₁ + x₂ = −b/a, 10⁻⁹",
    "𝑓(𝑥) = 𝑎𝑥² + 𝑏𝑥 + 𝑐, where 𝑎 ≠ 0",
    r"\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}, \quad \alpha\beta\gamma, \nabla\times\mathbf{B}",
    "ℝ ⊂ ℂ, ℕ ⊂ ℤ, ∑ᵢ xᵢ, x̄ = 3.2, p̂ = 0.4, σ², μ₀, Δt, λx.x",
    "½ cup, ¼ tsp, 20 ℃, 5 µm, 3 kΩ, 12 µmol/L, №5, 1ª, 2º, 1ˢᵗ",
    "a + b = c; x + y + z = 0; f(x, y, z) = x*y - z/2; A ∩ B ∪ C",
    "① first, ② second, ③ third; ⅓, ⅔; Ⅳ, Ⅻ",
    "P(A|B) = P(B|A) P(A) / P(B)",
]
CODE: Final = [
    "for (int i = 0; i < n; i++) { a[i] = b[i] + c[i]; }",
    "SELECT u.id, u.name FROM users u WHERE u.created_at >= '2026-01-01' AND u.email LIKE '%@example.com%';",
    "fn main() -> Result<(), Box<dyn Error>> { let v: Vec<Option<String>> = Vec::new(); Ok(()) }",
    "template<typename T> std::map<std::string, std::vector<T>> build(const T& x) { return {}; }",
    "const re = /^(?:[a-z0-9]+(?:-[a-z0-9]+)*)$/i; if (a < b && c > d) { x = y?.z ?? 0; }",
    'printf("%02x%02x %5d%% %-10s %08lx\\n", a, b, c, d, e);',
    "grep -rn 'TODO' --include='*.py' src/ | sort -u | awk '{print $1}' > out.txt 2>&1",
    "git log --oneline\n9ea8e08 text: take no broken UTF-16 for words\n79819a9 docs: name the ports\n@@ -12,7 +12,9 @@ def f(a, b):",
    "import React, { useEffect } from 'react';\nexport default function App({ children }: Props) { return <div className=\"app\">{children}</div>; }",
    "C:\\Users\\anna\\new\\table.txt and \\\\server\\share\\x64\\bin",
    "public static final Map<String, List<Integer>> CACHE_BY_ID = new ConcurrentHashMap<>();",
    'docker run --rm -it -p 8080:80 -e KEY="${KEY:?}" -v "$PWD:/w" registry.example/app:1.2.3@sha256:'
    + hashlib.sha256(b"image").hexdigest(),
    "KEY=value\nEMPTY=\nOTHER=1\n[section]\nname = x\n",
    "func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mu.Lock(); defer s.mu.Unlock() }",
    "echo -e '\\033[1mBold\\033[0m' && tput sgr0",
    "0x00 0xff 0x1f8b; b'\\x89PNG\\r\\n\\x1a\\n'; '\\u00e9'; \"\\n\\t\\\"\"",
]
MAIL: Final = [
    "From: Anna Müller <anna@example.com>\nTo: team@example.com\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\nMessage-ID: <CAF1x=abcDEF123@mail.example.com>\n\nHi all,\n\nplease find the notes below.\n\n> On Mon, Bob wrote:\n> fine with me\n\n-- \nAnna",
    "Dear Sir or Madam,\n\nYour invoice no. 2026/1130-77 of € 1.234,56 is due on 15.12.2026.\nIBAN DE89 3704 0044 0532 0130 00, BIC COBADEFFXXX.\n\nKind regards",
    "Unsubscribe: https://news.example.com/u?id=8f14e45fceea167a5a36dedd4bea2543&l=en&utm_source=mail&utm_campaign=x",
]
MARKUP: Final = [
    "# Title\n\n- **bold** and _italic_, `code`, [link](https://example.com/a_b?c=d&e=f#g)\n- [ ] todo\n\n> quote\n\n```sh\nls -la\n```",
    "<!doctype html><html><head><title>A page</title></head><body><h1>Hello</h1><p>One<br>two</p><ul><li>a</li><li>b</li></ul><table><tr><td>x</td><td>y</td></tr></table></body></html>",
    "<p>Caf&eacute; &amp; bar &mdash; &copy; 2026&nbsp;A&nbsp;B, 5&thinsp;&micro;m, H<sub>2</sub>O, x<sup>2</sup></p>",
    '<person><first>John</first><last>Smith</last><note xml:lang="en">ok</note></person>',
    '{"name": "M\\u00fcller", "tags": ["a", "b"], "path": "C:\\\\new", "url": "https:\\/\\/example.com\\/x", "n": null}',
    "https://example.com/wiki/M%C3%BCnchen?x=1%2F2&q=a%20b%2Bc&redirect=https%3A%2F%2Fexample.org%2Fp",
    "key: value\nlist:\n  - one\n  - two\nurl: http://x/?a=1&b=2\n",
]
PROSE: Final = [
    "U.S.A., e.g. this, i.e. that; a, b and c. A, B, C or D? J. R. R. Tolkien, Ph.D.",
    "Kırmızı ışıkta dur, çünkü yağmur yağıyor; Iğdır'da sınıf.",
    "Ẹ̀kọ́ ni iṣẹ́ Yorùbá; ọ̀rọ̀ àti ẹ̀kọ́",
    "Tiếng Việt rất hay và đẹp, phở bò và bánh mì",
    "Привет, как дела? SQL-запрос к базе MySQL, IT-отдел, 5а класс",
    "Ο Γιάννης πήγε στην Αθήνα με το WiFi του",
    "می\u200cخواهم بروم، کتاب\u200cها را آورده\u200cام",
    "क्षत्रिय और हिन्दी में लिखा हुआ पाठ, श्री\u200dमान",
    "これはＮＨＫのニュースです。カタカナ「ﾃｽﾄ」はない。第１章、５０％ＯＦＦ！",
    "这是一个中文句子（没有问题），A股上涨３％。",
    "안녕하세요 ㅋㅋㅋ ㅠㅠ 반갑습니다",
    "שלום עולם, מה שלומך? גוגל ב-Google",
    "The α and β parameters, the Ω-limit, μ-opioid, γ-rays, Δ9",
    "naïve café, Ångström, Łódź, İstanbul, Þór, Æsir, œuvre, straße, ﬁne print",
    "O’Brien said “it’s fine” — don't wait… 5′ 11″, 50 °C, §3, ¶4",
]


def _repository() -> list[str]:
    files = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return [text[at : at + 2000] for text in texts for at in range(0, min(len(text), 12_000), 2000)]


def corpus() -> dict[str, list[str]]:
    """Pieces of ordinary writing by kind."""
    return {
        "18 languages": [text for language in LANGUAGES for text in builtin(language).values()],
        "JSON of 18 languages": [json.dumps(dict(builtin(language)), ensure_ascii=False) for language in LANGUAGES],
        "prose": PROSE,
        "code": CODE,
        "hashes and identifiers": _hashes(),
        "pictures in base64": _pictures(),
        "logs": _logs(),
        "tables": _tables(),
        "e-mails": MAIL,
        "emoji": EMOJI,
        "mathematics": MATHEMATICS,
        "markup": MARKUP,
        "this repository's pages": _repository(),
    }
