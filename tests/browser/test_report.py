"""The report in a real browser: its script, its keys, small and dark screens, paper, and nothing asked of a network."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # a busy machine takes minutes for the report

NUMBER = "mqar_cliff.recall_mamba2_max_pairs"
CELL = "tables/mqar_cliff:Mamba-2:8_pairs"
LIGHT, DARK = "light", "dark"
READ = [
    *("body", ".lead", "small", "nav a", "figcaption", ".why", ".cells td a", ".named a", "#why .kind", "#why dt", "#why a"),
    *(".verdict.supported", ".verdict.refuted", ".verdict.inconclusive", ".tiles .undecided b", ".tiles .not_measured b"),
]
"""Words on every ground."""


class Reader:
    """Who reads the report."""

    def __init__(self, browser: Chrome, file: Path):
        self.browser, self._address = browser, file.as_uri()

    def open(self, anchor: str = "", width: int = 1280, height: int = 900, theme: str = LIGHT) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        self.browser.get("about:blank")  # an address that differs in its fragment alone loads nothing
        self.browser.get(f"{self._address}#{anchor}" if anchor else self._address)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def until(self, holds: Callable[[], object]) -> None:
        WebDriverWait(self.browser, 10).until(lambda _: holds())

    @property
    def focused(self) -> WebElement:
        return self.browser.switch_to.active_element

    @property
    def chain(self) -> str:
        """What the panel says; nothing where it is closed."""
        return self.one("#why").text


@pytest.fixture
def reader(chromium: Chrome, report: Path) -> Iterator[Reader]:
    """Every test fails on an error of the page, and on what is asked of a network."""
    found = Reader(chromium, report)
    chromium.get_log("browser"), chromium.get_log("performance")
    yield found
    assert not [entry for entry in chromium.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    asked = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    addresses = [one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"]
    assert not [address for address in addresses if not re.match(r"file:///|data:|about:", address)]


def test_it_opens_and_every_picture_loads(reader: Reader) -> None:
    reader.open()
    assert reader.browser.title == "ripstop at scale cpu"
    reader.run("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    reader.until(lambda: reader.run("return [...document.images].every((image) => image.complete && image.naturalWidth > 100)"))
    assert reader.all("figure img")
    assert len(reader.all("#study-d_state_scaling .panels svg")) == 14, "held-out losses that records keep"


def test_every_link_leads_to_a_place(reader: Reader) -> None:
    reader.open()
    dead = reader.run(
        "return [...document.querySelectorAll('a')].map((a) => decodeURIComponent(a.getAttribute('href').slice(1)))"
        ".filter((name) => !document.getElementById(name))"
    )
    ids = reader.run("return [...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert dead == [] and len(ids) == len(set(ids)) > 1000


def test_every_chain_unfolds_and_leads_on(reader: Reader) -> None:
    """Each entry's links lead to places; each has its records and runs as counted."""
    reader.open()
    wrong = reader.run(
        """
        const wrong = [];
        for (const [anchor, entry] of Object.entries(data.entries)) {
          const box = document.createElement("div");
          box.append(...chain(entry)[1]);
          if (!document.getElementById(anchor)) wrong.push(anchor);
          for (const link of box.querySelectorAll("a"))
            if (!document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1)))) wrong.push(link.href);
          const told = text(entry[4]).match(/^(\\d+) records? of (\\d+) runs?/);
          if (told && Number(told[1]) !== range(data.sets[entry[5]][0]).length) wrong.push(anchor + " records");
          if (told && Number(told[2]) !== range(data.sets[entry[5]][1]).length) wrong.push(anchor + " runs");
        }
        return wrong;
        """
    )
    assert wrong == []


def test_search_finds_a_number_and_opens_its_chain_by_keys_alone(reader: Reader) -> None:
    reader.open()
    reader.press("/")
    assert reader.focused.get_attribute("id") == "query"
    reader.press("mamba2_max_pairs recall")
    assert reader.one("#hits b").text == NUMBER
    reader.press(Keys.ARROW_DOWN)
    assert NUMBER in reader.focused.text
    reader.press(Keys.ARROW_UP)
    assert reader.focused.get_attribute("id") == "query"
    reader.press(Keys.ENTER)
    reader.until(lambda: NUMBER in reader.chain)
    assert reader.browser.current_url.endswith(f"#{NUMBER}") and reader.focused.text == NUMBER
    assert "5 records of 5 runs; n = 5" in reader.chain and "mean_interval" in reader.chain
    assert len(reader.all("#why tbody tr")) == 5 and not reader.all("#hits a:not([hidden] *)")
    reader.press(Keys.ESCAPE)
    assert not reader.chain and reader.focused.get_attribute("id") == "query"
    assert "#" not in reader.browser.current_url


def test_search_says_how_many_it_found(reader: Reader) -> None:
    reader.open()
    reader.press("/", "recall")
    assert re.fullmatch(r"\d+ found", reader.run("return document.querySelector('#found').textContent"))
    assert len(reader.all("#hits a")) == 12
    reader.press("qqqq")
    assert reader.one("#hits").text == "nothing found"
    reader.press(Keys.ENTER)
    assert not reader.chain


def test_an_address_opens_its_chain(reader: Reader) -> None:
    """As a link of the PDF does it."""
    for anchor in (NUMBER, CELL, "figures/mqar_cliff", "tables/mqar_cliff", "claims.refuted"):
        reader.open(anchor)
        assert reader.chain.startswith("Close\n" + anchor.replace("_pairs", " pairs" if anchor == CELL else "_pairs"))
        assert reader.run("return document.getElementById(arguments[0]).matches('.named')", anchor)
        top = reader.run("return document.getElementById(arguments[0]).getBoundingClientRect().top", anchor)
        assert 0 < top < 900 or anchor.startswith("tables/mqar_cliff") or anchor.startswith("figures")


def test_from_a_number_to_its_run_and_back(reader: Reader) -> None:
    reader.open(NUMBER)
    reader.one("#why ul a").send_keys(Keys.ENTER)
    reader.until(lambda: "a run of mqar_cliff" in reader.chain)
    assert "config: results/cpu/mqar_cliff/runs/" in reader.chain and "num_pairs" in reader.one("#why pre").text
    assert reader.run("return document.querySelector('tr.named').closest('details').open")
    reader.browser.back()
    reader.until(lambda: reader.focused.text == NUMBER)


def test_a_claim_leads_to_its_numbers(reader: Reader) -> None:
    reader.open()
    claim = reader.one("#section-claims tbody tr")
    claim.find_element(By.CSS_SELECTOR, "a").send_keys(Keys.ENTER)
    reader.until(lambda: "a verdict" in reader.chain)
    assert all(word in reader.chain for word in ("statement", "origin", "criterion", "registration"))
    reader.one("#why ul a").send_keys(Keys.ENTER)
    reader.until(lambda: "a number" in reader.chain)


def test_arrow_keys_walk_through_a_table(reader: Reader) -> None:
    reader.open()
    first = reader.one("[id='tables/mqar_cliff'] tbody a")
    assert len(reader.all("[id='tables/mqar_cliff'] tbody a[tabindex='0']")) == 1
    reader.run("arguments[0].focus()", first)
    reader.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    cell = reader.focused.find_element(By.XPATH, "..")
    assert (cell.get_property("cellIndex"), cell.find_element(By.XPATH, "..").get_property("sectionRowIndex")) == (1, 1)
    reader.press(Keys.ARROW_UP, Keys.ARROW_UP)  # there is nothing above the first row
    assert reader.focused.find_element(By.XPATH, "..").get_property("cellIndex") == 1
    reader.press(Keys.ENTER)
    reader.until(lambda: "a cell" in reader.chain)


def test_focus_is_seen_and_the_first_stop_skips_to_the_results(reader: Reader) -> None:
    reader.open()
    reader.press(Keys.TAB)
    assert reader.focused.text == "Skip to the results" and reader.focused.location["x"] >= 0
    for _ in range(6):
        reader.press(Keys.TAB)
        assert reader.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    fold = reader.one("#study-mqar_cliff details summary")
    reader.run("arguments[0].focus()", fold)
    reader.press(Keys.ENTER)
    assert fold.find_element(By.XPATH, "..").get_property("open")


def test_a_table_sorts_by_the_value_of_a_column(reader: Reader) -> None:
    reader.open()
    rows = "[...document.querySelectorAll('[id=\"tables/mqar_cliff\"] tbody tr')]"
    column = f"return {rows}.map((row) => row.cells[5].textContent)"
    button = reader.all("[id='tables/mqar_cliff'] th button")[5]
    button.send_keys(Keys.ENTER)
    up = [float(text.split()[0]) for text in reader.run(column)]
    assert up == sorted(up) and up[0] < up[-1]
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    assert [float(text.split()[0]) for text in reader.run(column)] == up[::-1]


def test_claims_are_shown_by_verdict(reader: Reader) -> None:
    reader.open()
    shown = "return document.querySelectorAll('#section-claims tbody tr:not([hidden])').length"
    before, n_refuted = reader.run(shown), len(reader.all("#section-claims tr[data-verdict='refuted']"))
    button = reader.one(".filter .refuted")
    button.send_keys(Keys.ENTER)
    assert n_refuted > 0 and reader.run(shown) == before - n_refuted
    assert button.get_attribute("aria-pressed") == "false"
    button.send_keys(Keys.SPACE)
    assert reader.run(shown) == before


@pytest.mark.parametrize("anchor", ["", NUMBER, CELL])
@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_small_screen_scrolls_in_one_direction(reader: Reader, width: int, anchor: str) -> None:
    reader.open(anchor, width, 740)
    reader.run("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert reader.run("const page = document.documentElement; return page.scrollWidth - page.clientWidth") == 0
    # What is wider than the screen scrolls in a box of its own.
    boxes = "return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth + 1).length"
    assert reader.run(boxes) > (0 if width < 700 else -1)


def test_light_and_dark(reader: Reader) -> None:
    """Text is told from its ground by at least 4.5 to 1, as WCAG 2 has it."""
    for theme in (LIGHT, DARK):
        reader.open(NUMBER, theme=theme)
        pairs = reader.run(
            """
            const opaque = (element) => {
              for (; element; element = element.parentElement) {
                const ground = getComputedStyle(element).backgroundColor;
                if (ground !== "rgba(0, 0, 0, 0)") return ground;
              }
            };
            return arguments[0].map((selector) => {
              const element = document.querySelector(selector);
              return [selector, getComputedStyle(element).color, opaque(element)];
            });
            """,
            READ,
        )
        grounds = {ground for _, _, ground in pairs}
        assert all((_luminance(ground) < 0.2) == (theme == DARK) for ground in grounds), grounds
        for selector, ink, ground in pairs:
            light, dark = sorted((_luminance(ink), _luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, selector, ink, ground)


def _luminance(color: str) -> float:
    channels = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_it_prints(reader: Reader) -> None:
    reader.open(NUMBER)
    printed = reader.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    for selector in ("header", "nav", "#why", ".filter"):
        assert not reader.one(selector).is_displayed()
    assert reader.one("#overview").is_displayed()


def test_it_shows_its_results_without_scripts(reader: Reader) -> None:
    reader.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.open()
        assert reader.one("noscript p").is_displayed() and reader.one("[id='tables/mqar_cliff'] td").text == "Mamba-2"
    finally:
        reader.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_no_script_but_its_own_runs(reader: Reader) -> None:
    """Whatever a result holds: the page's policy refuses it."""
    reader.open()
    reader.run(
        """
        const script = document.createElement("script"), image = new Image();
        script.textContent = "window.alien = 1";
        image.src = "https://example.org/x.png";
        document.body.append(script, image);
        """
    )
    time.sleep(0.2)
    assert reader.run("return window.alien") is None
    refused = [entry["message"] for entry in reader.browser.get_log("browser")]
    assert len(refused) == 2 and all("Content Security Policy" in message for message in refused)
    reader.browser.get_log("performance")
