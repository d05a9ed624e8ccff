"""A picture of a report as Chromium shows it: python benchmarks/screenshot.py REPORT.html OUT.png

The pictures in the README are made by it. `--dark` asks for the dark colours, `--section` for a part of the page,
`--pdf` prints instead.
"""

import argparse
import base64
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image


def browser(width: int, height: int = 900) -> Any:
    """A headless Chromium; its driver is the one installed beside it, none is ever downloaded."""
    from selenium import webdriver

    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        raise SystemExit("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(str(programs[1])))


def picture(driver: Any, *, width: int, top: float = 0, height: float | None = None) -> Image.Image:
    """The open page, or a part of it, at this width in CSS pixels."""
    device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    full = driver.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": top, "width": width, "height": height or full - top, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return Image.open(io.BytesIO(base64.b64decode(shot["data"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--top", type=float, default=0, help="CSS pixels from the top that are left out")
    parser.add_argument("--height", type=float, help="CSS pixels; the whole page, if not given")
    parser.add_argument("--section", help="the id of an element to begin at")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--pdf", action="store_true")
    asked = parser.parse_args()
    driver = browser(asked.width)
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if asked.dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(asked.page.resolve().as_uri())
        if asked.pdf:
            printed = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
            asked.out.write_bytes(base64.b64decode(printed["data"]))
            return
        top = asked.top
        if asked.section:
            driver.set_window_size(asked.width, 900)
            find = "return document.getElementById(arguments[0]).getBoundingClientRect().top + scrollY"
            top += driver.execute_script(find, asked.section) - 16
        shot = picture(driver, width=asked.width, top=top, height=asked.height)
        shot.convert("RGB").save(asked.out, optimize=True)
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
