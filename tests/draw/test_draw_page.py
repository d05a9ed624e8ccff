"""The page of `cnnbench draw` in a real browser: people draw on it, load pictures, point at maps; and the command."""

import base64
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_page_browser import LOW_CONTRAST
from test_training import run

from cnnbench.cli.compose import compose_config
from cnnbench.cli.draw import draw
from cnnbench.cli.run_options import DrawOptions
from cnnbench.data import DatasetInfo
from cnnbench.data.files.fitting import Decoding
from cnnbench.data.files.images import decode_image
from cnnbench.draw.page import MOST_SAMPLE_BYTES, render_page
from cnnbench.draw.style import measure_fit, measure_pen, measure_style
from cnnbench.experiment.factories import make_model
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.trained import Trained
from cnnbench.runs.contents import read_predictions
from cnnbench.runs.folder import RunFolder

HOSTILE = ["<img src=x onerror=document.title='x'>", "{model}"]
RESIZED = ["data.channels=3", "data.image_size=16", "data.resize=pad", "data.background=[200,30,60]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The pages of two runs as files: of grey digits, and of coloured squares whose classes have hostile names."""
    folder = tmp_path_factory.mktemp("drawn")
    for place in range(12):
        path = folder / "squares" / HOSTILE[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (16, 16), (250, 240, 230))
        image.paste((20 * place, 60, 200 * (place % 2)), (4, 3, 12, 11))
        image.save(path)
    run(folder / "digits", "model=lenet5", "trainer.epochs=1")
    squares = ["data=image_folder", f"data.path={folder / 'squares'}", "data.test_fraction=0.5", "data.val_fraction=0"]
    run(folder / "colour", *squares, *RESIZED, "model=lenet5", "trainer.epochs=1")
    for name in ("digits", "colour"):
        draw(DrawOptions(folder / name))
    return {name: folder / name / "draw.html" for name in ("digits", "colour")}


@pytest.fixture(scope="module")
def driver():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver (.ci/run does so)")
    from screenshot import start_browser

    started = start_browser(1280)
    yield started
    started.quit()


class Page:
    """An open page, and what a person does with it."""

    def __init__(self, driver) -> None:
        self.driver = driver

    def open(self, path, *, width=1280, scheme="light"):
        chosen = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in chosen.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
        self.driver.get(path.as_uri())
        return self

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, condition):
        """Waits for a condition in JavaScript."""
        wait = "const done = arguments[0]; (function look() { (%s) ? done() : setTimeout(look, 5); })();"
        self.driver.set_script_timeout(20)
        self.driver.execute_async_script(wait % condition)
        return self

    def answered(self):
        return self.until("!now.frame && !now.answering")

    def drag(self, *places):
        """A stroke through places on the drawing, as shares of its sides."""
        from selenium.webdriver.common.action_chains import ActionChains

        paper = self.find("#paper")
        width, height = paper.size["width"], paper.size["height"]
        actions = ActionChains(self.driver, duration=0)
        for number, (x, y) in enumerate(places):
            actions.move_to_element_with_offset(paper, (x - 0.5) * width, (y - 0.5) * height)
            if not number:
                actions.click_and_hold()
        actions.release().perform()
        return self.answered()

    def press(self, *keys, held=None):
        from selenium.webdriver.common.action_chains import ActionChains

        actions = ActionChains(self.driver, duration=0)
        actions = actions.key_down(held).send_keys(*keys).key_up(held) if held else actions.send_keys(*keys)
        actions.perform()
        return self.answered()

    def pixels(self):
        """What the network got, uint8 (C, H, W)."""
        found = np.array(self.run("return [...now.pixels]"), np.uint8)
        return found.reshape([self.run("return shape[arguments[0]]", key) for key in ("channels", "height", "width")])

    def ink(self):
        return int(self.pixels().astype(int).sum())


@pytest.fixture
def page(driver):
    """A page to open; afterwards, nothing must have been complained of or fetched."""
    driver.get_log("browser")
    driver.get_log("performance")
    opened = Page(driver)
    yield opened
    assert [entry for entry in driver.get_log("browser") if "readback operations" not in entry["message"]] == []
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {Path(url).name for url in asked} <= {"draw.html"}


def test_a_stroke_of_the_mouse_is_predicted_in_words_and_bars(page, made):
    page.open(made["digits"]).answered()
    assert page.find("#share").text.startswith("Draw with mouse")
    page.drag((0.3, 0.2), (0.7, 0.2), (0.4, 0.8))
    shares = [float(one.text.strip("%< ")) for one in page.driver.find_elements("css selector", "#bars .number")]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=0.6)
    best = page.run("return document.querySelector('.best bdi').textContent")
    assert page.find("#label").text == best == str(np.argmax(shares))
    page.until("document.getElementById('status').textContent")
    assert page.run("return document.getElementById('status').textContent") == f"{best}, {round(max(shares))} %"


def test_a_sample_is_unchanged_and_is_predicted_as_in_the_run(page, made):
    page.open(made["digits"])
    place, label = page.run("return [page.samples.places[3], page.samples.labels[3]]")
    page.find("#samples button:nth-child(4)").click()
    page.answered()
    tested = read_predictions(made["digits"].parent)
    assert tested["labels"][place] == label
    assert page.find("#truth").text == f"True class: {label}"
    found = page.run("return [...network.run(now.pixels).probabilities]")
    np.testing.assert_allclose(found, tested["probabilities"][place], atol=1e-4)
    assert page.find("#samples button:nth-child(4)").get_attribute("aria-label").endswith(f"true class {label}")


def test_strokes_are_erased_undone_and_cleared(page, made):
    from selenium.webdriver.common.keys import Keys

    page.open(made["digits"]).drag((0.3, 0.5), (0.7, 0.5))
    drawn = page.ink()
    page.find("#eraser").click()
    page.drag((0.5, 0.5), (0.7, 0.5))
    assert 0 < page.run("return findInk(now.screen, page.style.paper).box.right") < 28 * 0.6
    page.find("#undo").click()
    assert page.answered().ink() == drawn > 0
    page.find("#clear").click()
    assert page.answered().ink() == 0
    assert not page.find("#clear").is_enabled()
    page.press("z", held=Keys.CONTROL)
    assert page.ink() == drawn
    page.press("z", held=Keys.CONTROL)
    assert page.ink() == 0
    assert not page.find("#undo").is_enabled()


def test_a_drawing_is_centred_and_scaled_like_the_training_images_unless_switched_off(page, made):
    page.open(made["digits"]).drag((0.1, 0.1), (0.1, 0.4))
    fit = page.run("return page.style.fit")
    rows, columns = np.nonzero(page.pixels()[0] > 60)
    assert rows.max() + 1 - rows.min() == pytest.approx(fit["size"], abs=1.5)
    middle = [(found.min() + found.max() + 1) / 2 for found in (columns, rows)]
    np.testing.assert_allclose(middle, fit["centre"], atol=0.6)  # of a straight line, the same for box and mass
    np.testing.assert_allclose(fit["centre"], [14, 14], atol=0.6)
    page.find("#centre").click()
    rows, columns = np.nonzero(page.answered().pixels()[0])
    assert (rows.max(), columns.max()) <= (28 * 0.5, 28 * 0.25)
    picture = page.run("return [...document.getElementById('input').getContext('2d').getImageData(0, 0, 28, 28).data]")
    assert picture[::4] == page.pixels().flatten().tolist()


def test_keys_draw_and_are_announced(page, made):
    from selenium.webdriver.common.keys import Keys

    page.open(made["digits"])
    page.run("document.getElementById('paper').focus()")
    page.press(Keys.ARROW_UP, " ", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.find("#cursor").is_displayed()
    page.until("document.getElementById('status').textContent === 'pen down'")
    page.press(" ", Keys.ARROW_LEFT)
    assert page.run("return drawing.state.strokes.map((one) => [...one.points])") == [[14, 13, 15, 13, 16, 13]]
    page.until("/^\\d, .* %$/.test(document.getElementById('status').textContent)")


def test_a_finger_draws_without_scrolling_the_page(page, made):
    page.open(made["digits"], width=360)
    box = page.run("const b = document.getElementById('paper').getBoundingClientRect(); return [b.left, b.top]")
    touch = "Input.dispatchTouchEvent"
    for kind, places in [("Start", [(50, 50)]), ("Move", [(90, 120)]), ("Move", [(120, 200)]), ("End", [])]:
        points = [{"x": box[0] + x, "y": box[1] + y} for x, y in places]
        page.driver.execute_cdp_cmd(touch, {"type": f"touch{kind}", "touchPoints": points})
    assert page.answered().ink() > 0
    assert page.run("return [drawing.state.strokes.length, scrollY]") == [1, 0]


def test_pointing_at_a_cell_outlines_what_it_sees(page, made):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.open(made["digits"])
    page.find("#samples button").click()
    page.answered()
    layers = page.run("return program.layers.filter((one) => one.show).map((one) => one.shape)")
    options = page.driver.find_elements("css selector", "#layer option")
    assert [one.text.partition(" · ")[2] for one in options] == [" × ".join(map(str, shape)) for shape in layers]
    maps = page.driver.find_elements("css selector", ".map")
    assert len(maps) == layers[0][0]
    ActionChains(page.driver, duration=0).move_to_element(maps[1]).perform()
    seen = page.run("return program.layers[now.layer].receptive_field.rows.size")
    assert f"sees {seen} × " in page.find("#unit").text
    boxes = "return ['board', 'board-field'].map((id) => document.getElementById(id).clientWidth)"
    board, field = page.run(boxes)
    assert field == pytest.approx(board * seen / 28, abs=5)
    page.run("document.getElementById('large').focus()")
    before = page.find("#unit").text
    page.press(Keys.ARROW_RIGHT)
    assert page.find("#unit").text not in ("", before)
    page.find("#layer option:last-child").click()
    page.answered()
    page.run("document.activeElement.blur(); document.getElementById('large').focus()")
    assert page.find("#unit").text.endswith("sees the whole image")
    assert len(page.driver.find_elements("css selector", "#filters canvas")) == layers[0][0]


def test_the_heat_map_is_computed_when_the_pen_rests(page, made):
    page.open(made["digits"]).drag((0.3, 0.2), (0.7, 0.8))
    colours = (
        "new Set([...document.getElementById('heat').getContext('2d').getImageData(0, 0, 28, 28).data]"
        ".map((v, at, all) => at % 4 === 0 && v !== all[at + 2])).has(true)"
    )
    page.until(colours)


@pytest.mark.parametrize("size", [(37, 23), (9, 30), (16, 16)])
def test_a_loaded_picture_is_prepared_as_predict_prepares_it(page, made, tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    noise[..., 3] = 255
    noise[:4, :, 3] = 0  # what is transparent shows the background
    file = tmp_path / "noise.png"
    Image.fromarray(noise).save(file)
    page.open(made["colour"])
    page.find("#file").send_keys(str(file))
    page.until("drawing.state.picture").answered()
    wanted = decode_image(file, Decoding(3, 16, "pad", (200, 30, 60)))
    np.testing.assert_allclose(page.pixels().astype(int), wanted.astype(int), atol=1)


def test_a_dropped_picture_may_be_inverted_and_other_files_are_refused(page, made, tmp_path):
    photo = Image.new("RGB", (40, 40), "white")
    ImageDraw.Draw(photo).line([(20, 8), (20, 32)], fill=(10, 20, 30), width=6)
    photo.save(tmp_path / "photo.png")
    drop = """const data = new DataTransfer();
    const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], arguments[1]));
    document.getElementById("paper").dispatchEvent(
      new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));"""
    page.open(made["digits"]).answered()
    page.run(drop, base64.b64encode(b"no picture").decode(), "<b>notes")
    page.until("document.getElementById('message').textContent")
    assert page.find("#message").text == "<b>notes is no picture that this browser can read."
    page.run(drop, base64.b64encode((tmp_path / "photo.png").read_bytes()).decode(), "photo.png")
    page.until("drawing.state.picture").answered()
    wanted = decode_image(tmp_path / "photo.png", Decoding(1, 28))
    np.testing.assert_allclose(page.pixels().astype(int), wanted.astype(int), atol=1)
    page.find("#invert").click()
    np.testing.assert_allclose(page.answered().pixels().astype(int), 255 - wanted.astype(int), atol=1)
    assert not page.find("#invert").is_displayed()


def test_a_colour_run_has_coloured_ink_and_its_class_names_stay_text(page, made):
    page.open(made["colour"])
    assert page.run("return page.style.paper") == [250, 240, 230]
    page.run("const c = document.getElementById('colour'); c.value = '#c81e3c'; c.dispatchEvent(new Event('input'));")
    page.drag((0.2, 0.5), (0.8, 0.5))
    assert (page.pixels() == np.array([0xC8, 0x1E, 0x3C])[:, None, None]).all(0).any()
    names = [one.text for one in page.driver.find_elements("css selector", "#bars bdi")]
    assert sorted(names) == sorted(HOSTILE)
    assert page.run("return [document.images.length, document.title]") == [0, "Draw for lenet5"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
@pytest.mark.parametrize("name", ["digits", "colour"])
def test_pages_fit_are_legible_and_speak_both_languages(page, made, name, scheme, width):
    page.open(made[name], width=width, scheme=scheme).drag((0.2, 0.5), (0.8, 0.5))
    for language, title in [("pt", "Desenhe para a rede lenet5"), ("en", "Draw for lenet5")]:
        page.find(f"[data-language={language}]").click()
        page.answered()
        assert page.driver.title == page.find("h1").text == title
        assert page.run("return document.documentElement.lang.slice(0, 2)") == language
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run(LOW_CONTRAST) == []
    unnamed = """return [...document.querySelectorAll("button, input, select, canvas[tabindex], [role=img]")]
      .filter((one) => one.checkVisibility() && !(one.textContent.trim() || one.getAttribute("aria-label")
        || one.getAttribute("aria-labelledby") || one.labels?.length)).map((one) => one.outerHTML)"""
    assert page.run(unnamed) == []
    assert page.run("return getComputedStyle(document.querySelector('.bar i')).transitionDuration") == "0s"
    assert page.find(".lead").text.endswith("of the test images.")


def test_both_languages_have_the_same_texts_and_places(page, made):
    page.open(made["digits"])
    texts = page.run("return page.texts")
    assert texts["en"].keys() == texts["pt"].keys()
    for key, text in texts["en"].items():
        assert set(_places(text)) == set(_places(texts["pt"][key])), key


def _places(text):
    return [part.partition("}")[0] for part in text.split("{")[1:]]


@pytest.mark.parametrize("model", ["lenet5", "mlp"])
def test_a_page_for_mnist_is_small_and_needs_no_data(model, tmp_path):
    config = compose_config([f"model={model}", "data=mnist", f"data.root={tmp_path}", "data.download=false"])
    names = tuple(f"</script><!-- {number}" for number in range(10))
    info = DatasetInfo("mnist", 1, 28, names)
    weights = {f"model.{key}": value for key, value in make_model(config, info).state_dict().items()}
    trained = Trained(RunFolder(tmp_path), config, weights, info, (0.13,), (0.31,), "light_on_dark")
    text, notes = render_page(trained, "pt", DataChoice(), "run")
    assert len(text) + MOST_SAMPLE_BYTES * 4 / 3 < 1_500_000
    assert "the page has no test images" in notes[0]
    assert text.count("</script") == text.count("<script") == 4
    assert 'lang="pt-BR"' in text


def test_wrong_places_and_runs_are_refused(made, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    folder = made["digits"].parent
    for out, why in [
        (tmp_path / "notes.txt", "holds something else: must be a new file or an earlier page"),
        (tmp_path / "missing" / "page.html", "must be a file, new or an earlier page, in an existing folder"),
        (tmp_path, "must be a file, new or an earlier page"),
        (Path("/proc/page.html"), r"/proc/page.html cannot be written \(.*\): --out FILE names another file"),
    ]:
        with pytest.raises(ValueError, match=why):
            draw(DrawOptions(folder, out=out))
    with pytest.raises(ValueError, match=r"unknown language 'de'.*en, pt"):
        draw(DrawOptions(folder, language="de"))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    draw(DrawOptions(folder, language="pt", out=tmp_path / "page.html"))
    draw(DrawOptions(folder, out=tmp_path / "page.html"))  # an earlier page is replaced
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "page.html")] * 2
    shutil.copytree(folder, tmp_path / "unfinished", ignore=shutil.ignore_patterns("best*", "last*", "previous*"))
    with pytest.raises(ValueError, match="no"):
        draw(DrawOptions(tmp_path / "unfinished"))


def draw_stroke(width, place):
    """An image of 28 × 28 pixels with a bent stroke of this width, each pixel the share of it that is covered."""
    corners = np.random.default_rng(place).uniform(6, 22, (3, 2))
    points = np.moveaxis(np.mgrid[:224, :224], 0, -1) / 8 + 1 / 16
    distance = np.full((224, 224), np.inf)
    for start, end in itertools.pairwise(corners):
        along = np.clip((points - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(points - start - along[..., None] * (end - start), axis=-1))
    return (distance < width / 2).reshape(28, 8, 28, 8).mean((1, 3))


@pytest.mark.parametrize("width", [2, 3, 4])
def test_the_pen_is_as_wide_as_the_strokes(width):
    assert measure_pen(np.stack([draw_stroke(width, place) for place in range(8)])) == pytest.approx(width, rel=0.06)


def test_centring_is_measured_only_if_there_is_any():
    line = np.zeros((28, 28))
    line[4:24, 13:16] = 1
    moved = np.stack([np.roll(line, shift, 1) for shift in (-8, -3, 0, 5, 9)])
    assert measure_fit(moved) is None
    found = measure_fit(np.stack([line, line.T]))
    assert (found.centre, found.size) == ((14.25, 14.25), 20)
    photos = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8)
    assert measure_style(photos, None).fit is None
    assert measure_style(photos, None).paper == (255, 255, 255)
    dark = measure_style((255 - 200 * moved[:, None]).astype(np.uint8), "dark_on_light")
    assert (dark.paper, dark.ink) == ((255,), (55,))
