"""`cnnbench explain`: what it finds in networks of each kind, and the page it writes of it."""

import base64
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_models import NAMES, build, inputs
from test_page_browser import LOW_CONTRAST
from test_training import run
from torch import nn

from cnnbench.analysis import trace_fields
from cnnbench.analysis.attribution import choose_window, compute_occlusion
from cnnbench.data import DatasetInfo
from cnnbench.data.loader import make_permutation
from cnnbench.experiment.measuring import explain
from cnnbench.experiment.measuring.evaluate import evaluate_run
from cnnbench.experiment.measuring.explain import explain_run
from cnnbench.experiment.measuring.heat_maps import HeatMaps
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import prepare_measurement
from cnnbench.experiment.measuring.predict import Predictor
from cnnbench.report.explanation import PAGE, write_explanation
from cnnbench.runs.explanation import ShownImage
from cnnbench.runs.folder import RunFolder


def test_occlusion_of_a_linear_network_is_its_weights_times_the_image():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    images = torch.randn(1, 1, 4, 4)
    found = compute_occlusion(model, images, torch.tensor([1]), (1, 1), (1, 1))
    torch.testing.assert_close(found, (model[1].weight[1].detach() * images.flatten()).view(1, 4, 4))
    assert choose_window((28, 28)) == ((7, 7), (4, 4))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "conv_autoencoder"])
def test_every_classifier_has_heat_maps_in_the_shape_of_the_image(name):
    model, images = build(name).eval(), inputs(name)[:1]
    shape = tuple(images.shape[1:])
    info = DatasetInfo("x", shape[0], shape[1] if len(shape) == 2 else shape[1:], ("a",) * 10, len(shape) - 1)
    maps = HeatMaps(model, info, trace_fields(model, shape))
    (found,) = maps.add([ShownImage("0", images[0].numpy())], images)
    assert found.prediction == int(model(images).argmax())
    assert found.occlusion.shape == shape[1:]
    assert np.isfinite(found.occlusion).all()
    if name == "mlp":
        assert (found.grad_cam, maps.layer, maps.omitted) == (None, "", {"grad_cam": "no_maps"})
        return
    with torch.enable_grad():  # Grad-CAM as its paper defines it
        activations = {}
        hook = model.get_submodule(maps.layer).register_forward_hook(lambda _, __, out: activations.update(a=out))
        gradient = torch.autograd.grad(model(images)[0, found.prediction], activations["a"])[0]
        hook.remove()
    weights = gradient.flatten(2).mean(2)[0]
    cam = torch.einsum("c,c...->...", weights, activations["a"][0]).relu().detach()
    mode = "bilinear" if cam.dim() == 2 else "linear"
    wanted = nn.functional.interpolate(cam[None, None], shape[1:], mode=mode)[0, 0]
    torch.testing.assert_close(torch.from_numpy(found.grad_cam), wanted, rtol=1e-3, atol=1e-5)


KINDS = {  # what is left out, by the overrides of a run
    "model=lenet5": {},
    "model=mlp": {"seen": "no_maps", "grad_cam": "no_maps"},
    "model=sequence_cnn data=waves data.samples=400": {},
    "model=conv_autoencoder": dict.fromkeys(("heat_maps", "embedding", "mistakes", "shift"), "no_classes"),
}


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """By overrides: what is found of a run, and the folder of its page, whose names are hostile."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for constant in ("EMBEDDED", "SHIFTED"):
            patch.setattr(explain, constant, 60)
        for number, overrides in enumerate(KINDS):
            folder = tmp_path_factory.mktemp("explained")
            run(folder / "run", *overrides.split(), "trainer.epochs=1")
            found = explain_run(folder / "run", test=2)
            hostile = [f"</bdi><script>alert({k})</script>\u202e$x$" for k in range(len(found.class_names))]
            language, out = ("pt", "en")[number % 2], folder / "out"
            found = replace(found, class_names=hostile, notes=["<script>alert()</script>"])
            write_explanation(out, found, language, f"<script>{'long' * 50}")
            made[overrides] = found, out, language
    return made


@pytest.mark.parametrize("overrides", KINDS)
def test_a_run_is_explained_and_hostile_names_stay_text(explained, overrides):
    found, out, language = explained[overrides]
    omitted = KINDS[overrides]
    assert {key: why for key, why in found.omitted.items() if why != "no_mistakes"} == omitted
    assert len(found.images) == 2
    page = (out / PAGE).read_text()
    assert "<script" not in page
    assert "\u202e" not in page
    assert f'lang="{language}"' in page
    assert ("First-layer filters" in page, "Filtros da primeira camada" in page) == (language == "en", language == "pt")
    assert len(page) < 3_000_000
    labels = re.findall(r'role="img" aria-label="([^"]*)"', page)
    assert {"pt": "Filtros da primeira camada", "en": "First-layer filters"}[language] in labels
    assert not any("_" in label for label in labels), "no file's name"
    pictures = {path.name for path in out.glob("*.png")}
    assert {"filters.png", "feature_maps_1.png", "feature_maps_2.png"} <= pictures
    assert ("heat_maps.png" in pictures) == ("heat_maps" not in omitted)


def test_the_page_in_a_browser_fits_is_legible_loads_nothing_and_prints(explained):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver (.ci/run does so)")
    from screenshot import start_browser

    pages = [(out / PAGE).as_uri() for _, out, _ in explained.values()]
    driver = start_browser(1280)
    try:
        for scheme, width in [("light", 1280), ("dark", 390)]:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
            for page in pages:
                driver.get(page)
                driver.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width, page
                assert driver.execute_script("return document.scripts.length") == 0
                assert driver.execute_script(LOW_CONTRAST) == [], (page, scheme)
                sizes = "return [...document.querySelectorAll('.picture svg')].map((one) => one.clientHeight)"
                assert min(driver.execute_script(sizes)) > 60
        printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        assert base64.b64decode(printed["data"]).startswith(b"%PDF")
        assert driver.get_log("browser") == []
        messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        assert {url for url in asked if not url.startswith("data:")} <= {*pages}
    finally:
        driver.quit()


def test_a_run_with_permuted_pixels_is_measured_predicted_and_explained_with_them(tmp_path):
    folder = tmp_path / "run"
    run(folder, "data.permute_pixels=true", "trainer.epochs=2")
    ready = prepare_measurement(folder, DataChoice())
    accuracy = RunFolder(folder).read_summary()["test/accuracy"]
    assert evaluate_run(folder)[1]["accuracy"] == accuracy > 0.5  # chance is 0.1
    images = ready.found.split.images
    files = [str(tmp_path / f"{place}.png") for place in range(40)]
    for file, image in zip(files, images, strict=False):
        Image.fromarray(image[0].numpy()).save(file)
    predictor = Predictor(folder)
    (answers,) = predictor.predict(files, workers=0, keep_pixels=True)
    predicted = ready.evaluate(ready.serve(ready.found.split)).classified.predictions
    assert [answer.classes[0] for answer in answers] == predicted[:40].tolist()
    found = explain_run(folder, files=files[:1])
    permuted = images[0].flatten()[make_permutation(images[0].numel())]
    assert found.images[0].pixels.flatten().tolist() == permuted.tolist()
    assert found.images[0].prediction == predicted[0]
    assert predictor.explain(answers[:1])[0].pixels.flatten().tolist() == permuted.tolist()
    assert "pixels permuted" in found.notes[0]


def test_wrong_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--test 9: must be from 1 to 8"):
        explain_run(tmp_path, test=9)
    with pytest.raises(ValueError, match="must be 1 to 8 images, and these are 9"):
        explain_run(tmp_path, files=["x"] * 9)
