"""Time a stroke on the page of `cnnbench draw`: python benchmarks/draw_stroke.py DRAW.html

A part of a stroke is everything that follows a movement of the pen: painting it, centring the drawing, the prediction,
bars, feature maps and pictures. Times are those of the browser's clock, without rendering on the screen.
"""

import argparse
from pathlib import Path

from screenshot import start_browser

PARTS = 300
TIME = """
const times = [];
startStroke([shape.width * 0.3, shape.height * 0.2]);
for (let part = 0; part < arguments[0]; part++) {
  const turn = part / 8;
  const place = [shape.width * (0.5 + 0.2 * Math.cos(turn)), shape.height * (0.5 + 0.3 * Math.sin(turn))];
  const started = performance.now();
  extendStroke([place]);
  fillPixels(find("paper"), now.screen.data, now.screen);
  answer();
  times.push(performance.now() - started);
  clearTimeout(now.heating);
}
times.sort((a, b) => a - b);
return [times[times.length >> 1], times[Math.floor(times.length * 0.95)], now.cost];
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    driver = start_browser(1280)
    try:
        driver.get(page.resolve().as_uri())
        middle, slow, network = driver.execute_script(TIME, PARTS)
    finally:
        driver.quit()
    print(f"{page.stat().st_size / 1e6:.2f} MB; a part of a stroke: median {middle:.1f} ms, 95 % below {slow:.1f} ms")
    print(f"the last evaluation of the network: {network:.1f} ms")


if __name__ == "__main__":
    main()
