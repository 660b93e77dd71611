"""Every screen of the console in Debian's Chromium: what it shows, that nothing stored is script, and how it looks.

Screenshots are kept under `build/screens/`, which CI keeps as artefacts.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.service.conftest import KEYS, READ, REVIEW, Running
from tests.service.test_console import check, console, logged_in, token_of
from turnguard.testing import FakeVLLM

CHROMIUM = shutil.which("chromium")
SCREENS = Path(os.environ.get("TURNGUARD_SCREENS", "build/screens"))
EVIL = "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>\"'><svg onload=window.pwned=1>{{7*7}}"
OWN = """Rivals' "praise" & <3 {{7*7}}"""
POLICY = f"""
policy:
  default: block
  categories: {{Needs Caution: review, Profanity: flag, PII/Privacy: {{action: rewrite, with: redact}}}}
  custom:
    {json.dumps(OWN)}:
      definition: "Praises another maker's product. {{{{7*7}}}} \\"' onload=alert(1)"
      disallowed: ["Theirs is better."]
      allowed: ["You asked about theirs.", "Both are fine."]
      action: flag
  stages: {{output: {{categories: {{Violence: {{action: block, above: 0.85, otherwise: flag}}}}}}}}
  shadow: shadow.yaml
"""
SHADOW = "policy: {default: flag, categories: {Profanity: block, Needs Caution: review}}\n"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
    # Playwright leaves its own event loop's pipes to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def _picture() -> str:
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, Any]]]:
    """A service that has seen one step of each kind, with markup in every field that a client or a model writes."""
    folder = tmp_path_factory.mktemp("console")
    (folder / "policies").mkdir()
    (folder / "policies" / "shadow.yaml").write_text(SHADOW, encoding="utf-8")
    with FakeVLLM(family="nemotron-3.5") as vllm:
        both: dict[str, Any] = {"user": "unsafe", "response": "unsafe", "p": 0.97, "p_response": 0.97}
        vllm.when("evil", **both, categories=["Violence", EVIL], reasoning=f"It asks for harm. {EVIL}")
        vllm.when("lock", user="unsafe", categories=["Needs Caution"], p=0.62)
        vllm.when("rival", user="unsafe", categories=[OWN], p=0.8)
        vllm.when("damn", user="unsafe", categories=["Profanity"], p=0.71)
        vllm.when("mild", user="safe", response="unsafe", categories=["Violence"], p_response=0.52)
        with console(vllm, folder, POLICY, ", family: nemotron-3.5, reasoning: always") as (running, _):
            owner = {"user": EVIL[:150], "thread": EVIL[:150], "request": EVIL[:150], "session": EVIL[:150]}
            made = {
                "safe": check(running, "How long does dough rise?"),
                "flagged": check(running, "damn oven"),
                "blocked": check(running, f"evil {EVIL}", metadata=owner, tenant=EVIL[:150]),
                "reviewed": check(running, f"pick a lock {EVIL}", metadata=owner),
                "answered": check(running, "pick another lock", metadata=owner),
                "own": check(running, "the rival"),
                "picture": check(running, "damn picture", images=[_picture()]),
                "mild": check(running, "mild", stage="output", prompt="Tell me"),
                "call": check(
                    running, f'{{"evil": "{"<b>x</b>"}"}}', stage="tool_call", tool=EVIL[:150], prompt=f"go {EVIL}"
                ),
            }
            with running.client(KEYS[REVIEW]) as client:
                answer = {"by": EVIL[:150], "note": f"Fine. {EVIL}"}
                place = f"/v1/reviews/{made['answered']['review_id']}/approve"
                assert client.post(place, json=answer).status_code == 200
            yield running, made


@pytest.fixture
def context(browser: Browser, service: tuple[Running, dict[str, Any]]) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1280, "height": 850}) as made:
        _log_in(made, service[0])
        yield made


def _log_in(context: BrowserContext, running: Running) -> None:
    page = context.new_page()
    page.goto(f"{running.url}/console")
    page.get_by_label("Key").fill(KEYS[REVIEW])
    page.get_by_label("Your name").fill("Ada <b>")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
    page.close()


def _watched(context: BrowserContext, running: Running) -> tuple[Page, list[str]]:
    """A page, and what went wrong on it: errors, dialogs, requests to elsewhere."""
    wrong: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))

    def asked(request: Any) -> None:
        if not request.url.startswith((f"{running.url}/console", "data:image/")):
            wrong.append(request.url)

    page.on("request", asked)
    return page, wrong


def _places(made: dict[str, Any]) -> dict[str, str]:
    return {
        "overview": "",
        "decisions": "/decisions?span=7d",
        "decision-blocked": f"/decisions/{made['blocked']['id']}",
        "decision-threshold": f"/decisions/{made['mild']['id']}",
        "decision-call": f"/decisions/{made['call']['id']}",
        "decision-safe": f"/decisions/{made['safe']['id']}",
        "reviews": "/reviews",
        "reviews-approved": "/reviews?status=approved",
        "review": f"/reviews/{made['reviewed']['review_id']}",
        "review-answered": f"/reviews/{made['answered']['review_id']}",
        "decision-own-category": f"/decisions/{made['own']['id']}",
        "decisions-filtered": "/decisions?" + urlencode({"user": EVIL, "rule": EVIL, "category": OWN}),
        "problem": "/decisions/" + quote(EVIL, safe=""),
        "policy": "/policy",
    }


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        ("dark", 390),
        pytest.param("dark", 1280, marks=pytest.mark.exhaustive),
        pytest.param("light", 390, marks=pytest.mark.exhaustive),
    ],
)
def test_every_screen_fits_shows_no_script_and_asks_nobody_else(
    browser: Browser, service: tuple[Running, dict[str, Any]], scheme: Any, width: int
) -> None:
    running, made = service
    SCREENS.mkdir(parents=True, exist_ok=True)
    with browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme) as context:
        _log_in(context, running)
        page, wrong = _watched(context, running)
        for name, place in _places(made).items():
            answer = page.goto(f"{running.url}/console{place}")
            assert answer is not None
            assert answer.status == (404 if name == "problem" else 200), place
            assert len(answer.body()) < 150_000
            page.wait_for_load_state("networkidle")
            page.screenshot(path=SCREENS / f"{name}-{scheme}-{width}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert page.evaluate("window.pwned") is None, name
            assert page.locator("main script, main img, main [onerror], main [onload]").count() == 0, name
            assert page.locator("h1").count() == 1, name
            if name == "problem":
                assert "404" in wrong.pop()  # Chromium tells of the page's own status
            assert wrong == [], name


def test_content_is_shown_as_text_when_it_is_asked_for(
    context: BrowserContext, service: tuple[Running, dict[str, Any]]
) -> None:
    running, made = service
    page, wrong = _watched(context, running)
    for which in ("blocked", "call"):
        page.goto(f"{running.url}/console/decisions/{made[which]['id']}")
        assert page.locator("blockquote").count() == 0
        page.get_by_role("button", name="Show what was judged").click()
        expect(page.locator("blockquote").first).to_be_visible()
        assert page.evaluate("window.pwned") is None
    page.goto(f"{running.url}/console/decisions/{made['blocked']['id']}")
    page.get_by_role("button", name="Show what was judged").click()
    for shown in (page.locator("blockquote").first, page.locator("blockquote.reasoning")):
        expect(shown).to_contain_text("<script>window.pwned=1</script>")
        expect(shown).to_contain_text("{{7*7}}")
    expect(page.locator("blockquote.reasoning")).to_contain_text("It asks for harm.")
    page.screenshot(path=SCREENS / "decision-content-light-1280.png", full_page=True)
    page.goto(f"{running.url}/console/decisions/{made['picture']['id']}")
    page.get_by_role("button", name="Show what was judged").click()
    page.get_by_text("A picture, blurred").click()
    page.mouse.move(0, 0)
    picture = page.get_by_role("img", name="What was judged")
    expect(picture).to_have_css("filter", "blur(22px)")
    page.screenshot(path=SCREENS / "decision-picture-light-1280.png", full_page=True)
    picture.focus()
    expect(picture).to_have_css("filter", "none")
    assert wrong == []


def test_whoever_may_not_read_content_reads_no_reasoning_either(service: tuple[Running, dict[str, Any]]) -> None:
    running, made = service
    place = f"/console/decisions/{made['blocked']['id']}"
    with logged_in(running, KEYS[READ]) as client:
        page = client.get(place)
        answer = client.post(place, data={"token": token_of(page.text)})
    assert (page.status_code, answer.status_code) == (200, 403)
    assert "asks for harm" not in page.text + answer.text


def test_the_policys_own_categories_stand_in_the_matrix_and_in_the_filter(
    context: BrowserContext, service: tuple[Running, dict[str, Any]]
) -> None:
    running, made = service
    page, wrong = _watched(context, running)
    page.goto(f"{running.url}/console/policy")
    row = page.get_by_role("row").filter(has_text=OWN)
    expect(row.get_by_role("cell").first).to_contain_text("flag")
    page.get_by_text("Allowed: 2 examples").click()
    expect(page.get_by_text("Both are fine.")).to_be_visible()
    page.goto(f"{running.url}/console/decisions")
    page.get_by_label("Category").select_option(OWN)
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator(f'a[href="/console/decisions/{made["own"]["id"]}"]')).to_be_visible()
    assert wrong == []


def test_the_shadows_opinion_stands_beside_the_decision(
    context: BrowserContext, service: tuple[Running, dict[str, Any]]
) -> None:
    running, made = service
    page, wrong = _watched(context, running)
    page.goto(f"{running.url}/console/decisions/{made['flagged']['id']}")
    shadow = page.locator("section").filter(has=page.get_by_role("heading", name="Shadow"))
    expect(shadow).to_contain_text("would have done otherwise: block")
    expect(shadow.locator(".source .own")).to_contain_text("Profanity: block")
    page.goto(f"{running.url}/console/policy")
    expect(page.get_by_role("row").filter(has_text="Profanity")).to_contain_text("shadow block")
    page.goto(f"{running.url}/console")
    differs = page.get_by_role("table").filter(has_text="Shadow")
    expect(differs).to_contain_text("flag")
    assert wrong == []


def test_a_person_finds_why_a_step_was_blocked(
    context: BrowserContext, service: tuple[Running, dict[str, Any]]
) -> None:
    running, made = service
    page, wrong = _watched(context, running)
    page.goto(f"{running.url}/console")
    page.get_by_role("link", name="Decisions").click()
    page.get_by_label("Action").select_option("block")
    page.get_by_role("button", name="Filter").click()
    page.locator("tbody a").last.click()
    expect(page.get_by_role("heading", name="Why")).to_be_visible()
    expect(page.locator(".rule code").first).to_contain_text("policy.")
    expect(page.locator(".source .own").first).to_be_visible()
    expect(page.get_by_role("img", name="P(unsafe) is")).to_be_visible()
    assert wrong == []
    assert made


def test_p_stands_beside_its_threshold(context: BrowserContext, service: tuple[Running, dict[str, Any]]) -> None:
    running, made = service
    page, _ = _watched(context, running)
    page.goto(f"{running.url}/console/decisions/{made['mild']['id']}")
    expect(page.get_by_role("img", name="P(unsafe) is 0.520; above 0.85")).to_be_visible()


def test_a_review_is_answered_by_keyboard_alone(
    context: BrowserContext, service: tuple[Running, dict[str, Any]]
) -> None:
    running, _ = service
    made = check(running, "pick one more lock", tenant="keyboard")
    page, wrong = _watched(context, running)
    page.goto(f"{running.url}/console/reviews")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Why it waits")).to_be_visible()
    page.keyboard.press("s")
    expect(page.locator("blockquote")).to_contain_text("pick one more lock")
    page.get_by_label("Note").fill("a <b>fair</b> question, r and a")  # letters in a note are no keys
    page.keyboard.press("Tab")
    page.keyboard.press("a")
    expect(page.get_by_role("heading", name="Reviews", exact=True)).to_be_visible()
    page.goto(f"{running.url}/console/reviews/{made['review_id']}")
    expect(page.get_by_text("Approved by Ada <b>")).to_be_visible()
    expect(page.locator("blockquote")).to_have_text("a <b>fair</b> question, r and a")
    assert wrong == []


def test_new_decisions_appear_by_themselves(context: BrowserContext, service: tuple[Running, dict[str, Any]]) -> None:
    running, _ = service
    page, wrong = _watched(context, running)
    page.goto(f"{running.url}/console/decisions?user=newcomer")
    expect(page.get_by_text("No decision fits.")).to_be_visible()
    made = check(running, "hello", metadata={"user": "newcomer"})
    expect(page.locator(f'a[href="/console/decisions/{made["id"]}"]')).to_be_visible(timeout=20_000)
    assert wrong == []


def test_it_works_without_script(browser: Browser, service: tuple[Running, dict[str, Any]]) -> None:
    running, made = service
    with browser.new_context(java_script_enabled=False) as context:
        _log_in(context, running)
        page = context.new_page()
        page.goto(f"{running.url}/console/decisions?action=block")
        page.locator("tbody a").first.click()
        expect(page.get_by_role("heading", name="Why")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Key")).to_be_visible()
    assert made


def test_every_control_has_a_name_and_the_page_a_structure(
    context: BrowserContext, service: tuple[Running, dict[str, Any]]
) -> None:
    running, made = service
    page, _ = _watched(context, running)
    nameless = """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), select, textarea')]
        .filter(e => !(e.innerText || e.labels?.length || e.getAttribute('aria-label') || e.title)?.toString().trim())
        .map(e => e.outerHTML)"""
    for place in _places(made).values():
        page.goto(f"{running.url}/console{place}")
        assert page.evaluate(nameless) == []
        assert page.evaluate("document.documentElement.lang") == "en"
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to content")


def test_text_stands_out_from_its_ground(browser: Browser, service: tuple[Running, dict[str, Any]]) -> None:
    """At least 4.5:1, as WCAG 2.2 asks of text (success criterion 1.4.3)."""
    running, made = service
    measure = """() => {
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        const rgb = (css) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
        const light = ([r, g, b]) => { const f = (c) => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
            return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
        const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
            if (c[3] > .9) return c; } return [255, 255, 255, 1]; };
        const weak = new Set();
        for (const e of document.querySelectorAll('main *')) {
            if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
            const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
            const ratio = (a + .05) / (b + .05);
            if (ratio < 4.5) weak.add(`${e.className || e.tagName} ${ratio.toFixed(2)}`);
        }
        return [...weak];
    }"""
    schemes: tuple[Any, ...] = ("light", "dark")
    for scheme in schemes:
        with browser.new_context(color_scheme=scheme) as context:
            _log_in(context, running)
            page = context.new_page()
            for name, place in _places(made).items():
                page.goto(f"{running.url}/console{place}")
                assert page.evaluate(measure) == [], (scheme, name)
