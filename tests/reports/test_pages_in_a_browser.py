"""The pages in a real headless Chromium: opened from disk, no console message, no request, sorting and filtering work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reports.looked import inspection
from tests.reports.test_comparison import Told
from tests.reports.test_trends import point
from vitbench.records.index import Entry, Loaded
from vitbench.records.schema import Record
from vitbench.reports.comparison import compare
from vitbench.reports.comparison_formats import to_html
from vitbench.reports.formats import FORMATS
from vitbench.reports.gallery import gallery
from vitbench.reports.inspect_page import page as inspect_page
from vitbench.reports.leaderboard import build
from vitbench.reports.nightly import Night, nightly_html
from vitbench.reports.page import page
from vitbench.reports.page_details import Details, checkpoint_series
from vitbench.reports.thresholds import load_thresholds
from vitbench.reports.trends import trends

HOSTILE = "<script>alert(1)</script>"
BROWSERS = "chromium", "chromium-browser", "google-chrome"
TOO_WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install selenium")
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    service = shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield made
    made.quit()


@pytest.fixture(scope="module")
def board(make_lab: Callable[[], Loaded], scored: Callable[..., Record], tmp_path_factory: Any) -> Path:
    """A page of the lab and of records with hostile names."""
    task = "linear_segmentation@ridge"
    bad = [
        scored(HOSTILE, "none", task, 50.0),
        scored(HOSTILE, f"{HOSTILE}x", task, 70.0),
        scored('"><img src=x onerror=alert(2)>', "none", "depth@ridge", 1.0),
        scored(f"{HOSTILE}@1", "none", task, 50.0),
        scored(f"{HOSTILE}@2", "none", task, 60.0),
    ]
    found = build(Loaded((*make_lab().entries, *(Entry.of(r) for r in bad))))
    details = Details(
        (), tuple(checkpoint_series([Entry.of(r) for r in bad])), (), ((HOSTILE, HOSTILE),), (), (HOSTILE,)
    )
    shown = gallery(inspection(HOSTILE, HOSTILE), ("similar x", "similar +"))
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(
        page(found, details, [replace(shown, refused=((HOSTILE, HOSTILE),))], title=HOSTILE), encoding="utf-8"
    )
    return path


@pytest.fixture
def opened(board: Path, driver: Any) -> Any:
    """The page in the browser, as nobody has touched it yet."""
    driver.get(board.as_uri())
    return driver


def requested(driver: Any) -> list[str]:
    """Addresses asked for since the last call, those within the page and the page itself aside."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "file:///")) or "favicon" in url]


def rows(driver: Any, column: int, table: str = "#board") -> list[str]:
    """Texts of a column in the rows that are shown, in their order."""
    script = f"""return [...document.querySelectorAll('{table} tbody tr')].filter(r => !r.hidden && !r.classList.contains('group'))
        .map(r => r.cells[{column}].textContent.trim())"""
    return list(driver.execute_script(script))


def choose(driver: Any, by: str, value: str) -> None:
    driver.execute_script(
        "const s = document.querySelector(`[data-by=${arguments[0]}]`); s.value = arguments[1];"
        "s.dispatchEvent(new Event('input', {bubbles: true}))", by, value,
    )  # fmt: skip


def click_head(driver: Any, column: int, table: str = "#board") -> str | None:
    head = driver.find_elements("css selector", f"{table} thead th")[column]
    head.find_element("css selector", "button").send_keys("\n")  # by keyboard, as a click
    return head.get_attribute("aria-sort")


def test_the_page_opens_without_a_message_and_without_a_request(opened: Any) -> None:
    assert opened.get_log("browser") == []
    assert requested(opened) == []


def test_names_stay_text(opened: Any) -> None:
    assert opened.title == HOSTILE
    assert opened.find_element("css selector", "h1").text == HOSTILE
    assert (
        opened.execute_script("return [...document.scripts].filter(s => s.textContent.includes('alert')).length") == 0
    )
    assert opened.execute_script("return document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0
    choose(opened, "b", HOSTILE)
    assert set(rows(opened, 0)) == {HOSTILE}
    choose(opened, "b", "")


def test_filters_show_what_they_say(opened: Any) -> None:
    everything = len(opened.find_elements("css selector", "#board tbody tr"))
    choose(opened, "t", "0")
    assert 0 < len(rows(opened, 0)) < everything
    last = opened.find_element("css selector", "#board thead th:last-child")
    assert not last.is_displayed()  # which table it is, the filter says
    choose(opened, "t", "")
    assert last.is_displayed()
    assert len(rows(opened, 0)) == everything
    choose(opened, "s", "control")
    assert set(rows(opened, 0)) == {"patch_colour", "position_only", "random_vit"}
    choose(opened, "s", "")
    choose(opened, "m", "▼")
    assert all(text.endswith("▼") for text in rows(opened, 5))
    choose(opened, "m", "")
    choose(opened, "r", "random_dims")
    assert set(rows(opened, 1)) == {"random_dims°"}
    opened.find_element("css selector", "#filters button[type=reset]").send_keys("\n")
    search = opened.find_element("id", "search")
    search.send_keys("ZSCORE lab_ssl+grid")
    assert set(rows(opened, 1)) == {"zscore"}
    assert all(name.startswith("lab_ssl+grid") for name in rows(opened, 0))
    shown = len(rows(opened, 0))
    assert opened.find_element("id", "count").text == f"{shown} of {everything} rows"
    opened.find_element("css selector", "#filters button[type=reset]").send_keys("\n")
    assert len(rows(opened, 0)) == everything


def test_heads_sort_there_and_back_and_give_the_first_order_again(opened: Any) -> None:
    opened.find_element("css selector", "#filters button[type=reset]").send_keys("\n")
    choose(opened, "t", "0")
    before = rows(opened, 2)
    assert click_head(opened, 2) == "descending"
    falling = [float(v.strip("*")) for v in rows(opened, 2)]
    assert falling == sorted(falling, reverse=True)
    assert click_head(opened, 2) == "ascending"
    assert [float(v.strip("*")) for v in rows(opened, 2)] == falling[::-1]
    assert click_head(opened, 2) is None
    assert rows(opened, 2) == before
    assert click_head(opened, 1) == "ascending"
    names = rows(opened, 1)
    assert names.index("center") < names.index("zscore")
    assert click_head(opened, 5) == "descending"
    changes = [t for t in rows(opened, 5) if t]
    values = [float(t.split()[0].replace("−", "-")) for t in changes]
    assert values == sorted(values, reverse=True)
    assert min(values) < 0 < max(values)
    assert rows(opened, 5)[-1] == ""  # what has no number comes last


def test_one_heat_map_is_shown_at_a_time(opened: Any) -> None:
    shown = "return [...document.querySelectorAll('[data-heat]')].filter(m => !m.hidden).map(m => m.dataset.heat)"
    assert opened.execute_script(shown) == ["0"]
    opened.execute_script(
        "const s = document.getElementById('heat-choice'); s.value = '1'; s.dispatchEvent(new Event('input'))"
    )
    assert opened.execute_script(shown) == ["1"]


def test_nothing_is_wider_than_a_phone_and_colours_follow_the_system(opened: Any) -> None:
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    background = "return getComputedStyle(document.body).backgroundColor"
    assert opened.execute_script(TOO_WIDE) <= 0
    colours = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        colours.append(opened.execute_script(background))
    assert colours[0] == "rgb(255, 255, 255)"
    assert colours[1] != colours[0]
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert opened.get_log("browser") == []


def test_a_clicked_patch_is_the_one_that_maps_are_similar_to(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "inspect.html"
    path.write_text(inspect_page(inspection(HOSTILE, HOSTILE)), encoding="utf-8")
    requested(driver)
    driver.get(path.as_uri())
    assert driver.get_log("browser") == []
    assert requested(driver) == []
    canvas = driver.find_elements("css selector", "[data-image='0'] canvas")
    assert len(canvas) == 4
    values = "return [...arguments[0].values]"
    click = """const box = arguments[0].getBoundingClientRect(), at = {bubbles: true, clientX: box.left + box.width * arguments[1],
        clientY: box.top + box.height * arguments[2]}; arguments[0].dispatchEvent(new MouseEvent('click', at))"""
    driver.execute_script(click, canvas[1], 0.99, 0.01)  # the last column of the first row, of 6 x 4 patches
    for one in canvas:
        found = driver.execute_script(values, one)
        assert len(found) == 24
        assert found.index(max(found)) == 5
        assert max(found) == pytest.approx(1, abs=1e-3)
    canvas[0].send_keys("\ue015")  # arrow down
    found = driver.execute_script(values, canvas[0])
    assert found.index(max(found)) == 11
    assert "row 2, column 6" in canvas[0].get_attribute("aria-label")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert driver.execute_script(TOO_WIDE) <= 0
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    other = driver.execute_script(values, driver.find_element("css selector", "[data-image='1'] canvas"))
    assert other.index(max(other)) == 12  # the other image keeps its centre


def test_leaderboards_comparisons_and_nights_fit_a_phone(
    driver: Any, make_lab: Callable[[], Loaded], scored: Callable[..., Record], tmp_path: Path
) -> None:
    long = "linear_segmentation@ridge[" + ",".join(f"setting_{i}=value" for i in range(9)) + "]"
    entries = tuple(Entry.of(scored("lab_ssl", "none", task, 50.0)) for task in (long, "depth@ridge"))
    moved = tuple(e._replace(value=e.value + 5, identity="0" * 16) for e in entries if e.value is not None)
    found = compare(entries, moved, load_thresholds(), Told())
    slot = entries[0].slot
    nights = trends([point(1, 66.0, slot), point(2, 60.0, slot)], load_thresholds())
    pages = {
        "board": FORMATS["html"](build(make_lab()), "task"),
        "comparison": to_html(found),
        "night": nightly_html(found, nights, ["regression"], Night("2026-01-02T00:00:00Z", "tiny")),
    }
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
        driver.get((tmp_path / f"{name}.html").as_uri())
        assert driver.execute_script(TOO_WIDE) <= 0, name
        assert driver.get_log("browser") == []
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
