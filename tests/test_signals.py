"""Signals: the computed ones, and runs on them as a user starts them."""

import json
import signal
import sys

import numpy as np
import pytest
import torch
from scipy.signal import find_peaks

from cnnbench import registry
from cnnbench.data import data_shape, prepare
from cnnbench.results import RunFolder

NAMES = ("sine", "square", "sawtooth", "chirp", "ecg_normal", "ecg_anomaly")


def made(**changes):
    """The waves, made anew whatever is cached, and by default without noise."""
    options = {"length": 256, "samples": 1200, "noise": [0, 0], "waves_seed": 0} | changes
    return registry.build("data", "waves", root="", download=False, options=options)


@pytest.fixture(scope="module")
def clean():
    """Signals of each class without noise, (N, L), by name."""
    train = made().train
    return {name: train.images[train.labels == label, 0].numpy() for label, name in enumerate(NAMES)}


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip((a.images, a.labels), (b.images, b.labels), strict=True))


def test_waves_are_a_function_of_their_options_alone():
    first = made(noise=[0.1, 0.3])
    torch.manual_seed(77)
    again, other = made(noise=[0.1, 0.3]), made(noise=[0.1, 0.3], waves_seed=1)
    assert equal(first.train, again.train)
    assert equal(first.test, again.test)
    assert not torch.equal(first.train.images, other.train.images)
    seeds = [prepare(first, seed=seed, val_fraction=0.1, normalization="dataset") for seed in (0, 1)]
    assert equal(seeds[0].test, seeds[1].test)
    assert not torch.equal(seeds[0].val.images, seeds[1].val.images)


@pytest.mark.parametrize("samples", [60, 1000, 6000])
def test_waves_have_balanced_classes_on_both_sides_of_the_split(samples):
    source = made(samples=samples)
    assert len(source.test) == round(samples / 6)
    assert len(source.train) + len(source.test) == samples
    for split, most in ((source.test, 1), (source.train, 2)):
        counts = split.labels.bincount(minlength=6)
        assert counts.max() - counts.min() <= most
    assert source.info.class_names == NAMES


@pytest.mark.parametrize("length", [64, 300])
def test_waves_are_float32_signals_and_their_shape_is_known_beforehand(length):
    source = made(length=length)
    assert source.train.images.dtype == torch.float32
    assert source.train.images.shape[1:] == source.info.input_shape == (1, length)
    assert torch.isfinite(source.train.images).all()
    options = {"length": length, "samples": 1200, "noise": [0, 0], "waves_seed": 0}
    assert data_shape("waves", root="nowhere", options=options) == ((1, length), 6)


def test_the_noise_of_each_signal_is_gaussian_with_a_deviation_from_the_range():
    noise = (made(length=4096, noise=[0.2, 0.4]).train.images - made(length=4096).train.images)[:, 0].double()
    deviations = noise.std(1)
    assert 0.19 < deviations.min() < 0.21
    assert 0.39 < deviations.max() < 0.42
    assert abs(float(deviations.mean()) - 0.3) < 0.01
    standard = noise / deviations.unsqueeze(1)
    assert abs(float((standard**4).mean()) - 3) < 0.05, "the fourth moment of a Gaussian"


def test_a_sine_has_one_peak_in_its_spectrum_and_the_others_their_harmonics():
    train = made(length=1024).train
    window = np.hanning(1024)
    for label, second, third in ((0, 0.0, 0.0), (1, 0.0, 1 / 3), (2, 1 / 2, 1 / 3)):
        signals = train.images[train.labels == label, 0].double().numpy()
        spectrum = np.abs(np.fft.rfft((signals - signals.mean(1, keepdims=True)) * window, 8192))
        base = spectrum[:, :100].argmax(1)  # padded eightfold: bin 8 is one cycle
        assert (base > 13).all()
        assert (base < 67).all()
        assert base.min() < 20
        assert base.max() > 58
        fast = base > 32  # slower waves have fewer than four cycles, and their lobes overlap
        for harmonic, share in ((2, second), (3, third)):
            near = [
                row[b * harmonic - 6 : b * harmonic + 7].max() / row[b] for row, b in zip(spectrum, base, strict=True)
            ]
            np.testing.assert_allclose(np.array(near)[fast], share, atol=0.05)


def test_a_square_has_two_levels_a_sawtooth_one_slope_and_a_chirp_changes_its_period(clean):
    assert all(len(np.unique(square)) == 2 for square in clean["square"])
    for sawtooth in clean["sawtooth"]:
        steps = np.diff(sawtooth)
        rising = steps[steps > 0]
        assert len(rising) >= 255 - 9
        np.testing.assert_allclose(rising, rising[0], rtol=0.01)

    def change(wave):
        """The last half period by the first."""
        crossings = np.flatnonzero(np.diff(np.sign(wave - (wave.max() + wave.min()) / 2)))
        gaps = np.diff(crossings)
        return gaps[-1] / gaps[0]

    sines, chirps = (np.array([change(wave) for wave in clean[name]]) for name in ("sine", "chirp"))
    assert (np.abs(np.log(sines)) < 0.2).all()
    assert (np.abs(np.log(chirps)) > 0.15).mean() > 0.95
    assert 0.35 < (chirps > 1).mean() < 0.65, "some rise, some fall"


def test_hearts_beat_and_an_anomaly_is_one_of_three(clean):
    def described(signals):
        level = signals - np.median(signals, 1, keepdims=True)
        level = level / level.max(1, keepdims=True)
        beats = np.array([len(find_peaks(row, height=0.6)[0]) for row in level])
        p_and_t = np.array([len(find_peaks(row, height=(0.05, 0.24), prominence=0.05)[0]) for row in level])
        return beats, (level < -0.08).mean(1) > 0.075, ((level > 0.2) & (level < 0.42)).mean(1) > 0.135, p_and_t == 0

    beats, inverted, raised, no_p = described(clean["ecg_normal"])
    assert {3, 4} <= set(beats) <= {2, 3, 4, 5, 6}
    assert not inverted.any()
    assert not raised.any()
    assert not no_p.any()
    _, inverted, raised, no_p = described(clean["ecg_anomaly"])
    assert 0.23 < inverted.mean() < 0.43
    assert 0.23 < raised.mean() < 0.43
    assert no_p[~inverted & ~raised].mean() > 0.7


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("length", 63, r"data.length=63: accepted is a whole number from 64 to 16,384"),
        ("length", 16_385, r"data.length=16385: accepted"),
        ("samples", 59, r"data.samples=59: accepted is a whole number from 60"),
        ("noise", [0.1], r"data.noise=\[0.1\]: accepted is \[LOWEST,HIGHEST\]"),
        ("noise", [0.3, 0.1], r"data.noise=\[0.3, 0.1\]: accepted"),
        ("noise", [-0.1, 0.1], r"data.noise=\[-0.1, 0.1\]: accepted"),
        ("noise", [0.0, float("nan")], r"data.noise=\[0.0, nan\]: accepted"),
        ("noise", [0.0, float("inf")], r"data.noise=\[0.0, inf\]: accepted"),
        ("noise", "much", r"data.noise"),
        ("waves_seed", "x", r"data.waves_seed: Value 'x'"),
    ],
)
def test_an_option_of_the_waves_that_is_not_accepted_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        made(**{key: value})
    options = {"length": 256, "samples": 1200, "noise": [0, 0], "waves_seed": 0} | {key: value}
    with pytest.raises(ValueError, match=message):
        data_shape("waves", root="", options=options)


def test_train_evaluate_and_summarise_on_waves(cnnbench, tmp_path):
    done = cnnbench("train", "model=mlp", "data=waves", "data.samples=600", "trainer.epochs=1")
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / done.stdout.splitlines()[-1])
    result = run.summary()
    assert (result["data"], result["train_images"], result["val_images"]) == ("waves", 450, 50)
    assert (run.path / "mistakes.png").stat().st_size > 10_000
    assert 0 <= result["test/accuracy"] < 0.9
    measured = cnnbench("evaluate", str(run.path))
    assert measured.returncode == 0, measured.stderr
    assert f"accuracy   {result['test/accuracy']:.4f}" in measured.stdout
    described = cnnbench("summary", "model=mlp", "data=waves", "--json")
    assert described.returncode == 0, described.stderr
    assert json.loads(described.stdout)["parameters"] == result["parameters"] == 256 * 128 + 128 + 128 * 6 + 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=lenet5"], "model=lenet5 takes images, and the data are signals. Models that take signals: mlp"),
        (["data.normalize=half"], "data.normalize=half is for pixels, but waves holds signals"),
        (["data.image_size=64"], "data.image_size=64 resizes images, but waves holds signals of 256 samples"),
        (["data.noise=[0.5,0.1]"], "data.noise=[0.5, 0.1]: accepted"),
        (["data.lenght=9"], "unknown key in data 'lenght'. Did you mean 'length'?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_command_about_signals_ends_with_2_and_writes_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    from cnnbench.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cnnbench", "train", "model=mlp", "data=waves", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main()
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
