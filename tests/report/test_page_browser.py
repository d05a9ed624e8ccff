"""`report.html` in a real browser: headless Chromium opens the pages of three sweeps, and reads and uses them."""

import base64
import json
import shutil

import pytest

NAMES = ["pair", "grid", "hostile"]
# Texts whose contrast with what lies behind them is below 4.5 (3 for large text), as WCAG counts it.
LOW_CONTRAST = """
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] > 0.99) return colour;
  }
  return parse(getComputedStyle(document.body).backgroundColor);
};
const low = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility() || element.matches("script, style, option")) continue;
  const style = getComputedStyle(element);
  const inSvg = element instanceof SVGElement;
  // Numbers in coloured cells are black or white in either theme: tests/report/test_page.py computes theirs.
  if (inSvg && /fill:(#|var\\(--cell)/.test(element.getAttribute("style"))) continue;
  const [light, dark] = [parse(inSvg ? style.fill : style.color), behind(element)].map(luminance).sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) low.push([element.outerHTML.slice(0, 120), ratio]);
}
return low;
"""


@pytest.fixture(scope="module")
def driver():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver (.ci/run does so)")
    from screenshot import start_browser

    started = start_browser(1280)
    yield started
    started.quit()


@pytest.fixture
def show(driver, report_pages):
    """Opens a page by name, at a width, in a theme; afterwards, nothing must have been complained of or fetched."""

    def opened(name, *, width=1280, scheme="light", media="", script=True):
        chosen = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in chosen.items()]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        driver.get(report_pages[0][name].as_uri())
        return driver

    driver.get_log("browser")
    driver.get_log("performance")
    yield opened
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert driver.get_log("browser") == []
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked, "the page itself is in the log"
    pages = {path.as_uri() for path in report_pages[0].values()}
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} <= pages


def rows(driver, table, column):
    """The texts of a column, of the rows that are shown, from the top."""
    find = """
    return [...document.getElementById(arguments[0]).tBodies].filter((body) => !body.hidden)
      .map((body) => body.rows[0].cells[arguments[1]].innerText)"""
    return driver.execute_script(find, table, column)


def headers(driver, table):
    return driver.find_elements("css selector", f"#{table} thead th")


@pytest.mark.parametrize("name", [*NAMES, "single"])
def test_the_page_opens_without_a_complaint_and_no_name_becomes_a_program(show, name):
    page = show(name)
    assert page.execute_script("return document.documentElement.classList.contains('script')")
    assert page.execute_script("return window.pwned === undefined && document.scripts.length === 1")
    assert page.execute_script("return [...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    drawn = "return [...document.querySelectorAll('.chart svg')].filter((one) => one.checkVisibility()).every("
    assert page.execute_script(drawn + "(one) => one.getBoundingClientRect().height > 60)")


def test_a_click_on_a_header_sorts_and_another_one_turns_round(show, report_pages):
    page, study = show("grid"), report_pages[1]["grid"]
    button = headers(page, "groups-table")[2].find_element("tag name", "button")
    means = {group.label: group.estimate_of("accuracy").mean for group in study.groups}
    best_first = sorted(means, key=lambda label: -means[label])
    names = lambda: [text.removesuffix("baseline").strip() for text in rows(page, "groups-table", 0)]  # noqa: E731
    assert names() != best_first
    button.click()
    assert names() == best_first
    assert headers(page, "groups-table")[2].get_attribute("aria-sort") == "descending"
    button.click()
    assert names() == best_first[::-1]
    assert headers(page, "groups-table")[2].get_attribute("aria-sort") == "ascending"


def test_missing_figures_are_last_in_both_directions(show):
    page = show("grid")
    button = headers(page, "runs-table")[4].find_element("tag name", "button")
    for _ in range(2):
        button.click()
        shown = rows(page, "runs-table", 4)
        assert shown[-1] == "–"
        assert "–" not in shown[:-1]


def test_text_and_state_narrow_a_table(show):
    page = show("grid")
    find, choose = (
        page.find_element("css selector", f"[data-table=groups-table] {tag}") for tag in ("input", "select")
    )
    find.send_keys("WIDTH=4 depth=1")
    assert rows(page, "groups-table", 0) == ["model.width=4 model.depth=1"]
    count = page.find_element("css selector", "[data-table=groups-table] .count")
    assert count.text == "1 of 8 shown"
    find.clear()
    find.send_keys("x")
    assert rows(page, "groups-table", 0) == []
    choose = page.find_element("css selector", "[data-table=runs-table] select")
    choose.find_element("xpath", "option[.='failed']").click()
    assert rows(page, "runs-table", 0) == ["17"]
    page.find_element("css selector", "[data-table=runs-table] input").send_keys("details")
    assert rows(page, "runs-table", 0) == [], "what a button says is no text of the run"


def test_a_drawer_opens_by_keyboard_and_holds_the_command(show):
    page = show("grid")
    button = page.find_element("css selector", "#runs-table-48 .open")
    drawer = page.find_element("id", button.get_attribute("aria-controls"))
    assert not drawer.is_displayed()
    button.send_keys("\n")
    assert drawer.is_displayed()
    assert button.get_attribute("aria-expanded") == "true"
    assert "cnnbench train model=lenet5 model.width=4 model.depth=2 seed=5" in drawer.text
    assert "model.width" in drawer.text
    button.send_keys("\n")
    assert not drawer.is_displayed()


def test_the_link_to_a_failed_run_opens_its_drawer(show):
    page = show("grid")
    choose = page.find_element("css selector", "[data-table=runs-table] select")
    choose.find_element("xpath", "option[.='finished']").click()
    assert not page.find_element("id", "runs-table-18").is_displayed()
    page.find_element("css selector", ".alert a").click()
    assert "Diverged: the loss is nan" in page.find_element("css selector", "#runs-table-18 .drawer").text
    count = page.find_element("css selector", "[data-table=runs-table] .count").text
    assert count.startswith("48 of 48"), "a filter that would hide it is gone"


def test_values_appear_on_hover_and_for_the_arrow_keys(show):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = show("grid")
    tip = page.find_element("id", "tip")
    marks = page.find_elements("css selector", "#accuracy-macs .mark")
    assert len(marks) == 8
    assert not tip.is_displayed()
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", marks[0])
    ActionChains(page).move_to_element(marks[0]).perform()
    assert "MACs\naccuracy" in tip.text
    ActionChains(page).move_by_offset(0, 250).perform()
    assert not tip.is_displayed()
    page.execute_script("arguments[0].focus()", marks[0])
    label = lambda mark: mark.get_attribute("aria-label").replace("\N{NO-BREAK SPACE}", " ")  # as Selenium reads texts  # noqa: E731
    first = tip.text
    assert first == label(marks[0])
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert page.switch_to.active_element == marks[1]
    assert tip.text == label(marks[1]) != first
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()
    in_tab_order = page.find_elements("css selector", "#accuracy-macs [tabindex='0']")
    assert len([mark for mark in in_tab_order if mark.tag_name in ("path", "use")]) == 1


def test_another_pair_can_be_chosen(show):
    page = show("grid")
    visible = lambda: [p.get_attribute("id") for p in page.find_elements("class name", "pair") if p.is_displayed()]  # noqa: E731
    assert visible() == ["pair-1"]
    page.find_element("css selector", "#pair-choice option:nth-child(3)").click()
    assert visible() == ["pair-3"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(show, name, scheme):
    page = show(name, scheme=scheme)
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.execute_script(LOW_CONTRAST) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out_of_the_page(show, name, width):
    page = show(name, width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    if width == 1280 and name != "hostile":
        box = "const box = document.querySelector('#groups-table').parentElement;"
        assert page.execute_script(f"{box} return box.scrollWidth <= box.clientWidth")


def test_it_prints_on_light_paper_without_its_controls(show):
    page = show("grid", width=1030, scheme="dark", media="print")  # about A4 across, without its margins
    assert page.execute_script("return document.documentElement.scrollWidth") <= 1030
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not [one for one in page.find_elements("css selector", ".controls, nav, .open") if one.is_displayed()]
    printed = page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    content = base64.b64decode(printed["data"])
    assert content.startswith(b"%PDF")
    assert 4 < content.count(b"/Type /Page\n") <= 10, (
        "48 runs, 8 groups: a chart or a heading alone on a page would be more"
    )


def test_dark_matrices_are_as_dark_as_the_page(show):
    page = show("pair", scheme="dark")
    fills = page.execute_script(
        "return [...document.querySelectorAll('#pair-1-1 .mark')].map((m) => [getComputedStyle(m).fill, "
        "parseFloat(getComputedStyle(m).fillOpacity)])"
    )
    assert len(fills) == 100
    assert {fill for fill, _ in fills} == {"rgb(159, 211, 245)"}
    assert min(opacity for _, opacity in fills) == 0, "an empty cell is the page's paper"


def test_without_a_script_everything_is_there(show):
    page = show("grid", script=False)
    hidden = page.find_elements("css selector", ".pair, tr.drawer, #groups-table tbody")
    assert len(hidden) > 60
    assert [one.get_attribute("outerHTML")[:200] for one in hidden if not one.is_displayed()] == []
