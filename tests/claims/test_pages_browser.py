"""The pages of claims in a real browser: both languages and themes, a wide and a narrow window, and on paper."""

import base64
import json
import shutil

import pytest
from claim_builders import C01, C01_UNCLEAR, plant, plant_hostile, write_class
from test_page_browser import LOW_CONTRAST

from cnnbench.claims.classroom import gather_class, render_class
from cnnbench.claims.page import render_claim, write_index
from cnnbench.claims.records import read_verdicts, write_verdict
from cnnbench.claims.statement import choose_claims
from cnnbench.claims.wording import Wording
from cnnbench.cli.choices import find_config_dir

LOOKS = [("light", 1280), ("dark", 390)]


def write_pages(folder) -> list:
    """A page of each kind in each language, of planted verdicts."""
    pages = {}
    for language in ("en", "pt"):
        wording, own = Wording(language), folder / language
        records = [plant("C01", C01, "yes"), plant_hostile("C01", C01), plant("C01", C01_UNCLEAR)]
        for number, record in enumerate(records):
            write_verdict(own / f"{number}-quick/C01", record)
            pages[own / f"{number}-quick/C01/claim.html"] = render_claim(record, wording)
        pages[own / "class.html"] = render_class(gather_class(read_verdicts(write_class(own)[0].parent, [])), wording)
        claims = choose_claims(find_config_dir() / "claim", ["C01", "C03"])
        for path, text in pages.items():
            path.write_text(text)
        write_index(own, read_verdicts(own, []), claims, wording)
    return [*pages, *(folder / language / "index.html" for language in ("en", "pt"))]


def test_pages_fit_are_legible_load_nothing_and_print(tmp_path):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver (.ci/run does so)")
    from screenshot import start_browser

    pages = write_pages(tmp_path)
    driver = start_browser(1280)
    try:
        for scheme, width in LOOKS:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
            for page in pages:
                driver.get(page.as_uri())
                told = f"{page.relative_to(tmp_path)} {scheme} {width}"
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width, told
                shown = (
                    "return [...document.querySelectorAll('.evidence')].filter((one) => one.checkVisibility()).length"
                )
                assert driver.execute_script(shown) == (page.name != "index.html"), told
                driver.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
                assert driver.execute_script(LOW_CONTRAST) == [], told
        driver.get(pages[0].as_uri())
        printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        assert base64.b64decode(printed["data"]).count(b"/Type /Page\n") <= 2, "a claim is a sheet of paper"
        assert driver.get_log("browser") == []
        messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        assert {url for url in asked if not url.startswith("data:")} <= {page.as_uri() for page in pages}
    finally:
        driver.quit()
