"""Take a screenshot of a report in Chromium: python benchmarks/screenshot.py REPORT.html OUT.png

The README's pictures are made with it. `--dark` uses the dark colours, `--section` starts at a section, and `--pdf`
prints the page instead.
"""

import argparse
import base64
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image


def start_browser(width: int, height: int = 900) -> Any:
    """Start headless Chromium with the installed driver; nothing is downloaded."""
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
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(str(programs[1])))


def take_picture(driver: Any, *, width: int, top: float = 0, height: float | None = None) -> Image.Image:
    """Take a screenshot of the open page, or of a part of it, at this width in CSS pixels."""
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
    parser.add_argument("--top", type=float, default=0, help="CSS pixels to skip at the top")
    parser.add_argument("--height", type=float, help="CSS pixels; default: the whole page")
    parser.add_argument("--section", help="id of the element to start at")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--pdf", action="store_true")
    options = parser.parse_args()
    driver = start_browser(options.width)
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if options.dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(options.page.resolve().as_uri())
        if options.pdf:
            printed = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
            options.out.write_bytes(base64.b64decode(printed["data"]))
            return
        top = options.top
        if options.section:
            driver.set_window_size(options.width, 900)
            find = "return document.getElementById(arguments[0]).getBoundingClientRect().top + scrollY"
            top += driver.execute_script(find, options.section) - 16
        shot = take_picture(driver, width=options.width, top=top, height=options.height)
        shot.convert("RGB").save(options.out, optimize=True)
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
