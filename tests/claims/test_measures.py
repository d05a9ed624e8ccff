"""Measures of claims against closed forms and independent code, on runs whose weights are set by hand."""

import math
import shutil

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from test_training import run

from cnnbench import registry
from cnnbench.claims.measures.layers import compute_coherence, find_nearest_class
from cnnbench.claims.measures.networks import _find_side
from cnnbench.claims.subjects import FinishedRun, Network
from cnnbench.cli.compose import compose_config
from cnnbench.cli.errors import RunFailed
from cnnbench.cli.measure import measure_runs
from cnnbench.experiment.factories import make_model
from cnnbench.runs.folder import RunFolder
from cnnbench.training import checkpoint

STEP, SUM = (np.eye(5)[1:] + sign * np.eye(5)[:-1] for sign in (-1, 1))  # of neighbours


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A perceptron and a LeNet-5, trained on the digits for an epoch."""
    folder = tmp_path_factory.mktemp("measures")
    for name in ("mlp", "lenet5"):
        run(folder / name, f"model={name}", "trainer.epochs=1")
    return folder


def measure(name, path, **options) -> float:
    return registry.build("measure", name, options=options, run=FinishedRun.read(path))


def change_weights(source, target, **changes):
    """A copy of a run whose best weights are changed: `head__weight` is the tensor `head.weight`."""
    shutil.copytree(source, target)
    stored, record = checkpoint.load(target / "checkpoints", "best")
    tensors = dict(stored)
    for name, value in changes.items():
        key = f"model.{name.replace('__', '.')}"
        assert tensors[key].shape == value.shape
        tensors[key] = value.float().contiguous()
    checkpoint.save(target / "checkpoints", "best", tensors=tensors, record=record)
    return target


def read_split(path, split):
    """The images of a split as the network sees them, (N, D), and their labels."""
    ready = FinishedRun.read(path).prepare(split)
    images, labels = zip(*ready.serve(ready.found.split).iterate_epoch(), strict=True)
    return torch.cat(images).flatten(1).double().numpy(), torch.cat(labels).numpy()


def read_weights(model):
    return [value.detach().double().numpy() for value in model.state_dict().values()]


def test_dead_units_are_those_that_were_killed(runs, tmp_path):
    bias = torch.full((128,), 1e6)
    bias[:32] = -1e6
    killed = change_weights(runs / "mlp", tmp_path / "killed", hidden__0__bias=bias)
    assert measure("dead_units", killed) == 32 / 128
    run(tmp_path / "leaky", "model.activation=leaky_relu", "trainer.epochs=1")
    leaky = change_weights(tmp_path / "leaky", tmp_path / "killed_leaky", hidden__0__bias=bias)
    assert measure("dead_units", leaky) == 0  # its slope is never below 0.01


def test_dead_units_of_activations_that_overwrite_their_input(tmp_path):
    run(tmp_path / "run", "model=torchvision", "model.arch=squeezenet1_1", "data.train_limit=32", "trainer.epochs=1")
    assert 0 <= measure("dead_units", tmp_path / "run") < 1


def test_the_gradient_field_of_a_network_without_maps_says_what_it_needs():
    network = Network(compose_config(["model=mlp"]))
    with pytest.raises(ValueError, match="mlp on digits has no part `features`"):
        registry.build("measure", "gradient_field", options={"share": 0.9}, network=network)


@pytest.mark.parametrize("trained", [False, True])
def test_gradients_equal_those_derived_by_hand(runs, trained):
    ready = FinishedRun.read(runs / "mlp").prepare("train")
    model = ready.model if trained else make_model(ready.trained.config, ready.trained.info)
    first, first_bias, last, last_bias = read_weights(model)
    images, labels = (part[:256] for part in read_split(runs / "mlp", "train"))
    hidden = np.maximum(images @ first.T + first_bias, 0)
    logits = hidden @ last.T + last_bias
    shares = np.exp(logits - logits.max(1, keepdims=True))
    error = (shares / shares.sum(1, keepdims=True) - np.eye(10)[labels]) / len(labels)
    gradients = [((error @ last) * (hidden > 0)).T @ images, error.T @ hidden]
    for layer, gradient in enumerate(gradients, 1):
        found = measure("gradient_norm", runs / "mlp", layer=layer, trained=trained)
        assert found == pytest.approx(np.linalg.norm(gradient), rel=1e-4)
    if not trained:
        first_size, last_size = (math.sqrt(np.mean(gradient**2)) for gradient in gradients)
        assert measure("gradient_decay", runs / "mlp") == pytest.approx(math.log10(last_size / first_size), abs=1e-4)
    with pytest.raises(ValueError, match="layer=3: its network has 2 layers"):
        measure("gradient_norm", runs / "mlp", layer=3)


def test_a_network_that_always_says_three_errs_on_all_other_digits(runs, tmp_path):
    always = {"head__weight": torch.zeros(10, 128), "head__bias": torch.eye(10)[3]}
    three = change_weights(runs / "mlp", tmp_path / "three", **always)
    share = float((read_split(runs / "mlp", "train")[1] == 3).mean())
    tested = FinishedRun.read(three).summary["test/accuracy"]  # as the summary says, not measured anew
    assert measure("train_error", three) == pytest.approx(1 - share)
    assert measure("generalisation_gap", three) == pytest.approx(share - tested)


def test_early_accuracy_is_that_of_the_epoch(runs):
    (row,) = RunFolder(runs / "mlp").read_metrics()
    assert measure("early_accuracy", runs / "mlp", epoch=1) == row["train/accuracy"] > 0.1
    with pytest.raises(ValueError, match="no training accuracy of epoch 2"):
        measure("early_accuracy", runs / "mlp", epoch=2)


def test_the_shift_curve_of_a_linear_network(runs, tmp_path):
    images, labels = read_split(runs / "mlp", "train")
    templates = np.stack([images[labels == digit].mean(0) for digit in range(10)])
    templates -= templates.mean(0)
    weight, bias = torch.zeros(128, 784), torch.zeros(128)
    weight[:10], bias[:10] = torch.tensor(templates), 1000.0  # so large that ReLU passes everything
    head = torch.zeros(10, 128)
    head[:, :10] = torch.eye(10)
    changed = {
        "hidden__0__weight": weight,
        "hidden__0__bias": bias,
        "head__weight": head,
        "head__bias": torch.zeros(10),
    }
    linear = change_weights(runs / "mlp", tmp_path / "linear", **changed)
    tests, labels = read_split(linear, "test")
    squares = tests.reshape(-1, 28, 28)
    empty = squares.min()  # black, after normalisation
    answers = {}
    for down in range(-2, 3):
        for right in range(-2, 3):
            shifted = np.full_like(squares, empty)
            shifted[:, max(0, down) : 28 + min(0, down), max(0, right) : 28 + min(0, right)] = squares[
                :, max(0, -down) : 28 + min(0, -down), max(0, -right) : 28 + min(0, -right)
            ]
            answers[down, right] = (shifted.reshape(-1, 784) @ templates.T).argmax(1)
    for pixels in (1, 2):
        ring = [found for offsets, found in answers.items() if max(map(abs, offsets)) == pixels]
        accuracy = np.mean([found == labels for found in ring])
        loss = np.mean(answers[0, 0] == labels) - accuracy
        consistency = np.mean([found == answers[0, 0] for found in ring])
        assert loss > 0.01
        found = [
            measure(name, linear, pixels=pixels) for name in ("shifted_accuracy", "shift_loss", "shift_consistency")
        ]
        assert found == pytest.approx([accuracy, loss, consistency], abs=1e-3)


def test_the_field_that_the_gradient_of_one_convolution_reaches():
    one = ["model=vgg_mini", "model.stages=[[4]]", "model.kernel_size=5", "model.pool=none", "model.norm=none"]
    network = Network(compose_config([*one, "model.activation=leaky_relu", "data=mnist"]))
    found = [
        registry.build("measure", "gradient_field", options={"share": s}, network=network) for s in (0.01, 1 - 1e-6)
    ]
    assert found == [1, 5]  # every tap of the kernel counts, around its middle one


def test_the_side_of_the_square_that_holds_a_share_of_the_gradient():
    mass = torch.zeros(9, 11)
    mass[2:5, 6:9] = 1  # a 3×3 kernel of ones
    assert [_find_side(mass, share) for share in (0.11, 0.12, 0.95, 1 - 1e-6)] == [1, 3, 3, 3]
    mass[3, 7] = 1e6  # almost all lies in the middle
    assert _find_side(mass, 0.95) == 1


def make_grating(angle, phase, side=5):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.cos(2 * np.pi / side * (x * np.cos(angle) + y * np.sin(angle)) + phase)


def test_edges_and_bars_have_one_direction_and_blobs_none():
    ramp, edge = np.mgrid[:5, :5][1], np.tile([-1, -1, 0, 1, 1], (5, 1))
    tilted = [make_grating(np.pi * step / 12, step) for step in range(12)]
    directed = np.stack([ramp, 2 + 3 * edge, edge.T, *tilted])[:, None]
    assert compute_coherence(torch.tensor(directed)).numpy() == pytest.approx(1, abs=0.01)
    blob = np.exp(-((np.mgrid[:5, :5] - 2) ** 2).sum(0))
    assert compute_coherence(torch.tensor(np.stack([blob, np.ones((5, 5))])[:, None])).numpy() == pytest.approx(0)
    # Channels that vary along x and along y, the second twice as much: (4 − 1) / (4 + 1).
    crossed = np.stack([ramp, 2 * ramp.T])[None]
    assert float(compute_coherence(torch.tensor(crossed))) == pytest.approx(0.6)
    noise = np.random.default_rng(0).normal(size=(5, 5))
    y, x = ((np.kron(one, other) @ noise.ravel()) for one, other in ((STEP, SUM), (SUM, STEP)))
    low, high = np.linalg.eigvalsh([[x @ x, x @ y], [x @ y, y @ y]])
    assert float(compute_coherence(torch.tensor(noise)[None, None])) == pytest.approx((high - low) / (high + low))


def test_edge_gain_is_nothing_without_training_and_all_for_filters_made_of_edges(runs, tmp_path):
    ready = FinishedRun.read(runs / "lenet5").prepare("test")
    first = next(make_model(ready.trained.config, ready.trained.info).parameters()).detach()
    name = next(name for name, _ in ready.model.named_parameters()).replace(".", "__")
    untrained = change_weights(runs / "lenet5", tmp_path / "untrained", **{name: first})
    assert measure("edge_gain", untrained) == 0
    ramps = torch.arange(5.0).expand(6, 1, 5, 5)
    drawn = change_weights(runs / "lenet5", tmp_path / "drawn", **{name: ramps})
    assert measure("edge_gain", drawn) == pytest.approx(1 - float(compute_coherence(first).mean()), abs=1e-6)
    with pytest.raises(ValueError, match="does not begin with a convolution"):
        measure("edge_gain", runs / "mlp")


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")  # of scikit-learn, which does not use it here
def test_separability_equals_nearest_centroids_of_scikit_learn(runs):
    weight, bias = read_weights(FinishedRun.read(runs / "mlp").prepare("test").model)[:2]
    scores = []
    for activate in (lambda values: values, lambda values: np.maximum(values, 0)):
        (train, known), (test, labels) = (read_split(runs / "mlp", split) for split in ("train", "test"))
        first, asked = (activate(images @ weight.T + bias) for images in (train, test))
        predicted = NearestCentroid().fit(first, known).predict(asked)
        assert (find_nearest_class(*map(torch.tensor, (first, asked, known))).numpy() == predicted).all()
        scores.append(float((predicted == labels).mean()))
    assert measure("separability_growth", runs / "mlp") == pytest.approx(scores[1] - scores[0], abs=1e-3)


def test_a_user_measures_finished_runs(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    measure_runs(["gradient_norm", "layer=2", "trained=true", "mlp", "lenet5"])
    shown = capsys.readouterr().out
    assert all(
        f"{measure('gradient_norm', runs / name, layer=2, trained=True):.6g}" in shown for name in ("mlp", "lenet5")
    )
    with pytest.raises(RunFailed, match="does not begin with a convolution"):
        measure_runs(["edge_gain", "lenet5", "mlp"])
    assert "lenet5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shift_los"], "Did you mean 'shift_loss'"),
        (["shift_loss", "pixls=2", "mlp"], "Did you mean 'pixels'"),
        (["shift_loss", "pixels=two", "mlp"], "pixels=two: must be a whole number from 1 to 28"),
        (["shift_loss", "pixels=2"], "name a finished run"),
        (["edge_gain", "mlp"], "does not begin with a convolution"),
    ],
)
def test_what_cannot_be_measured_is_said(runs, monkeypatch, words, message):
    monkeypatch.chdir(runs)
    with pytest.raises(ValueError, match=message):
        measure_runs(words)
