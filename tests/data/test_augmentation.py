"""What training does to its images: each operation against an independent truth, and what it may depend on."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import InterpolationMode

from cnnbench import registry
from cnnbench.cli import compose
from cnnbench.cli.choices import find_config_dir, list_groups
from cnnbench.config.data import AugmentConfig
from cnnbench.config.schema import from_dict, to_dict
from cnnbench.data import Augmentation, Batches, DatasetInfo, Split, normalize
from cnnbench.data.augmentation import compute_grid, mask_box
from cnnbench.data.keyed_numbers import PURPOSES, draw
from cnnbench.experiment.build import build_parts
from cnnbench.experiment.factories import make_augmentation, make_batches
from cnnbench.experiment.loading import load_dataset
from cnnbench.experiment.run import run_job
from cnnbench.reproducibility import derive_key, make_generator
from cnnbench.runs.folder import RunFolder, create_folder
from cnnbench.storage.plain_data import read_yaml
from cnnbench.training.tasks import count_correct
from conftest import assert_same_tensors

LETTERS = {"digits", "mnist", "emnist", "kmnist", "qmnist", "usps", "svhn"}
STRONG = {
    "flip": 0.5,
    "crop": 1,
    "rotate": 15,
    "shift": 0.1,
    "scale": [0.8, 1.2],
    "shear": 10,
    "erase": 0.5,
    "brightness": 0.3,
    "contrast": 0.3,
    "mixup": 0.3,
    "cutmix": 1.0,
}


def augmentation(seed=0, **knobs):
    off = AugmentConfig().model_dump()
    del off["name"]
    assert knobs.keys() <= off.keys()
    return Augmentation(seed=seed, num_classes=10, device=torch.device("cpu"), **(off | knobs))


@pytest.fixture(scope="module")
def split():
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (130, 3, 12, 12), dtype=torch.uint8, generator=random)
    return Split(images, torch.randint(0, 10, (130,), generator=random))


def augmented(split, epoch=0, indices=None, **knobs):
    """The images of `indices`, or of the whole split in its order; where they are mixed, each with the next one."""
    indices = torch.arange(len(split)) if indices is None else indices
    change = augmentation(**knobs)
    if change.mixes:
        indices = torch.cat((indices, indices[:1]))
    return change(split.images[indices], split.labels[indices], indices, epoch)


def splitmix64(state):
    """The reference implementation, https://prng.di.unimi.it/splitmix64.c, of one state."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_numbers_are_the_upper_bits_of_splitmix64():
    assert splitmix64(1234567) == 6457827717110365317, "the reference's own first number"
    drawn = draw(torch.arange(100), 7, 3)
    assert tuple(drawn) == PURPOSES
    for purpose in ("flip", "cutmix x"):
        start = derive_key(7, f"augment {purpose}", 3)
        expected = [(splitmix64(start + 0x9E3779B97F4A7C15 * (i - 1)) >> 40) / 2**24 for i in range(100)]
        assert drawn[purpose].tolist() == expected


@pytest.mark.parametrize("epoch", [0, 1])
def test_numbers_are_uniform_and_independent_of_their_neighbours_purposes_and_epochs(epoch):
    drawn = draw(torch.arange(20_000), 0, epoch)
    for values in drawn.values():
        assert stats.kstest(values.numpy(), "uniform").pvalue > 0.001
        assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.03
    others = [*drawn.values(), draw(torch.arange(20_000), 0, epoch + 1)["flip"]]
    together = np.corrcoef([values.numpy() for values in others])
    assert (abs(together - np.eye(len(together))) < 0.03).all()


def test_parameters_are_drawn_from_their_whole_range():
    change = augmentation(rotate=20, shear=10, scale=[0.8, 1.2], shift=0.1, crop=2, flip=0.3)
    drawn = draw(torch.arange(20_000), 5, 0)
    (a, b, c), (d, e, f) = change._draw_maps(drawn, 20, 20).double().permute(1, 2, 0).numpy()
    mirrored = a < 0
    assert abs(mirrored.mean() - 0.3) < 0.01
    a, b, c = (np.where(mirrored, -x, x) for x in (a, b, c))
    # The inverse of a rotation, a shear and a scale: its second row is (−sin, cos) / scale, its determinant 1 / scale².
    size = (a * e - b * d) ** -0.5
    angle = np.degrees(np.arctan2(-d, e))
    shear = np.degrees(np.arctan((b * e + a * d) * size**2))
    for values, low, high in ((size, 0.8, 1.2), (angle, -20, 20), (shear, -10, 10)):
        assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 0.01
    moved = np.linalg.solve(np.array([[a, b], [d, e]]).transpose(2, 0, 1), np.array([c, f]).T[..., None])[..., 0]
    for axis in moved.T:
        assert set(np.round(axis)) == set(range(-4, 5)), "a crop of up to 2 pixels and a shift of up to 2"
    only = augmentation(crop=2)._draw_maps(drawn, 20, 20)[:, 0, 2].long()
    assert stats.chisquare(torch.bincount(only + 2, minlength=5)).pvalue > 0.01


@given(
    st.floats(-180, 180), st.floats(-30, 30), st.floats(0.5, 2), st.integers(-4, 4), st.integers(-4, 4), st.booleans()
)
def test_an_affine_map_is_torchvisions(angle, shear, scale, x, y, mirrored):
    random = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (1, 2, 15, 15), generator=random).float()
    given_by = {"rotate": math.radians(angle), "shear": math.radians(shear)}

    class Fixed(Augmentation):
        _turns = torch.tensor([[math.cos(given_by["rotate"]), math.sin(given_by["rotate"])]] * 4096)
        _slants = torch.tensor([math.tan(given_by["shear"])] * 4096)

        def _draw_offset(self, drawn, axis, side):
            return torch.tensor([-float(x if axis == "x" else y)])

    off = AugmentConfig().model_dump() | {"flip": float(mirrored), "scale": [scale, scale]}
    del off["name"]
    change = Fixed(seed=0, num_classes=2, device=torch.device("cpu"), **off)
    maps = change._draw_maps(draw(torch.zeros(1, dtype=torch.int64), 0, 0), 15, 15)
    grid = sum(compute_grid(maps, 15, 15)).permute(0, 2, 3, 1)
    moved = torch.nn.functional.grid_sample(image, grid, align_corners=False)
    first = F.horizontal_flip(image) if mirrored else image
    expected = F.affine(first, angle, [x, y], scale, [shear, 0], interpolation=InterpolationMode.BILINEAR)
    # Where a place lies on the border to within rounding, one of them may read black.
    assert ((moved - expected).abs() < 0.05).float().mean() > 0.99


def test_a_flip_mirrors_exactly_the_chosen_images(split):
    images, labels = augmented(split, flip=0.5)
    flipped = draw(torch.arange(len(split)), 0, 0)["flip"] < 0.5
    expected = torch.where(flipped.view(-1, 1, 1, 1), split.images.flip(-1), split.images)
    assert 40 < flipped.sum() < 90
    assert torch.equal(images, expected.float())
    assert torch.equal(labels, split.labels)
    assert torch.equal(augmented(split, flip=1)[0], split.images.flip(-1).float())


def test_a_crop_is_a_slice_of_the_padded_image(split):
    images, _ = augmented(split, crop=3)
    padded = torch.nn.functional.pad(split.images, (3, 3, 3, 3)).float()
    left, top = ((draw(torch.arange(len(split)), 0, 0)[f"crop {axis}"] * 7).long() for axis in "xy")
    expected = [padded[i, :, y : y + 12, x : x + 12] for i, (x, y) in enumerate(zip(left, top, strict=True))]
    assert torch.equal(images, torch.stack(expected))
    assert set(left.tolist()) == set(range(7))


@pytest.mark.parametrize("size", [28, 33, 224, 512])
def test_whole_pixels_stay_exact_at_every_size(size):
    images = torch.randint(0, 256, (4, 1, size, size), dtype=torch.uint8)
    moved, _ = augmented(Split(images, torch.zeros(4, dtype=torch.int64)), flip=1)
    assert torch.equal(moved, images.flip(-1).float())


def test_brightness_and_contrast_are_torchvisions(split):
    grey = Split(split.images[:, :1], split.labels)
    for knob, adjust in (("brightness", F.adjust_brightness), ("contrast", F.adjust_contrast)):
        images, _ = augmented(grey, **{knob: 0.8})
        factors = 1 + (2 * draw(torch.arange(len(grey)), 0, 0)[knob] - 1) * 0.8
        expected = [adjust(i / 255, f) * 255 for i, f in zip(grey.images, factors.tolist(), strict=True)]
        torch.testing.assert_close(images, torch.stack(expected), atol=1e-3, rtol=1e-4)
        assert stats.kstest(factors.numpy(), "uniform", (0.2, 1.6)).pvalue > 0.01
        assert images.max() == 255, "clamped"


def test_an_erased_box_has_an_area_of_the_range_and_the_chosen_share_of_images_has_one():
    white = Split(torch.full((3000, 1, 40, 30), 255, dtype=torch.uint8), torch.zeros(3000, dtype=torch.int64))
    images, _ = augmented(white, erase=0.4, erase_area=[0.1, 0.3])
    black = images[:, 0] == 0
    assert (black | (images[:, 0] == 255)).all()
    area = black.sum((1, 2)) / 1200
    erased = area > 0
    assert abs(float(erased.float().mean()) - 0.4) < 0.03
    assert 0.1 - 0.02 < area[erased].min() < 0.12
    assert 0.28 < area[erased].max() < 0.3 + 0.02
    height, width = black.any(2).sum(1)[erased], black.any(1).sum(1)[erased]
    assert torch.equal((height * width) / 1200, area[erased]), "a box"
    assert (height / width).min() < 0.4
    assert (height / width).max() > 2.5
    assert black.any(0).all(), "boxes reach every corner"


def test_mixup_is_a_weighted_mean_of_an_image_and_the_next(split):
    images, labels = augmented(split, mixup=0.4)
    own = labels.double()
    following, expected = split.labels.roll(-1), split.images.double()
    different = split.labels != following
    share = own[torch.arange(130), split.labels]
    torch.testing.assert_close(labels.sum(1), torch.ones(130))
    weight = share.view(-1, 1, 1, 1)
    mixed = expected * weight + expected.roll(-1, 0) * (1 - weight)
    torch.testing.assert_close(images[different].double(), mixed[different], atol=1e-3, rtol=1e-5)
    assert stats.kstest(share[different].numpy(), "beta", (0.4, 0.4)).pvalue > 0.01


def test_cutmix_takes_a_box_of_the_next_image_and_its_area_for_the_labels(split):
    images, labels = augmented(split, cutmix=1.0)
    first, second = split.images.float(), split.images.float().roll(-1, 0)
    of_second = (images != first).any(1)
    assert torch.equal(images, torch.where(of_second.unsqueeze(1), second, first))
    different = split.labels != split.labels.roll(-1)
    share = labels[torch.arange(130), split.labels.roll(-1)]
    # Here and there a pixel is the same in both images: the box is where they differ, and what lies between.
    height, width = of_second.any(2).sum(1), of_second.any(1).sum(1)
    torch.testing.assert_close(share[different], (height * width / 144)[different])
    torch.testing.assert_close(labels.sum(1), torch.ones(130))
    assert share[different].max() > 0.7


def test_with_mixup_and_cutmix_about_half_the_images_take_each(split):
    images, _ = augmented(split, mixup=5.0, cutmix=1.0)
    pure = ((images == split.images) | (images == split.images.roll(-1, 0))).flatten(1).all(1)
    assert 45 < pure.sum() < 85


def batches(split, batch_size, **knobs):
    change = augmentation(**knobs) if knobs else None
    return Batches(split, batch_size, mean=[0.5] * 3, std=[0.25] * 3, shuffle_seed=0, augmentation=change)


def whole(served):
    return [torch.cat(parts) for parts in zip(*served, strict=True)]


@pytest.mark.parametrize("knobs", [STRONG, {"flip": 0.5}, {"rotate": 10}, {"mixup": 0.2}], ids=str)
def test_an_image_is_the_same_in_any_batch_and_at_any_time(split, knobs, monkeypatch):
    expected = whole(batches(split, 64, **knobs).iterate_epoch(3))
    for size in (1, 7, 130, 1000):
        torch.manual_seed(size)
        for gathered in (1, 2**19):
            monkeypatch.setattr("cnnbench.data.loader.GATHERED_PIXELS", gathered)
            served = batches(split, size, **knobs)
            next(served.iterate_epoch(0))
            assert all(torch.equal(a, b) for a, b in zip(expected, whole(served.iterate_epoch(3)), strict=True))
    again, other = batches(split, 64, **knobs), batches(split, 64, **(knobs | {"seed": 1}))
    assert not torch.equal(expected[0], whole(again.iterate_epoch(4))[0])
    assert not torch.equal(expected[0], whole(other.iterate_epoch(3))[0])


def test_an_image_alone_is_what_it_is_among_others(split):
    for knobs in (STRONG | {"mixup": 0, "cutmix": 0}, {"flip": 0.5, "crop": 2}):
        together, _ = augmented(split, 2, **knobs)
        for index in (0, 5, 129):
            alone, _ = augmented(split, 2, torch.tensor([index]), **knobs)
            assert torch.equal(alone[0], together[index])


def test_without_augmentation_batches_are_what_they_were(split):
    order = torch.randperm(130, generator=make_generator(0, "shuffle", 2))
    expected = normalize(split.images[order], torch.tensor([0.5] * 3), torch.tensor([0.25] * 3))
    images, labels = whole(batches(split, 16).iterate_epoch(2))
    assert torch.equal(images, expected)
    assert torch.equal(labels, split.labels[order])
    still, kept = augmented(split)
    assert torch.equal(still, split.images.float()), "and no knob does nothing"
    assert torch.equal(kept, split.labels)


QUICK = ["trainer.epochs=2", "data.train_limit=200", "model=mlp", "trainer.device=cpu"]


def test_only_training_batches_are_augmented():
    config = compose.compose_config([*QUICK, "augment=strong"])
    dataset = load_dataset(config)
    serve = partial(make_batches, dataset=dataset, config=config, device=torch.device("cpu"))
    for part in (dataset.val, dataset.test):
        served = serve(part)
        assert served.augmentation is None
        images, labels = whole(served.iterate_epoch())
        assert torch.equal(images, normalize(part.images, *(torch.tensor(v) for v in (dataset.mean, dataset.std))))
        assert torch.equal(labels, part.labels)
    images, labels = next(serve(dataset.train, shuffle=True).iterate_epoch())
    assert labels.shape == (64, 10)
    assert images.shape == (64, 1, 28, 28)


def test_a_resumed_augmented_run_equals_an_uninterrupted_one(tmp_path):
    config = compose.compose_config([*QUICK, "augment=strong", "trainer.label_smoothing=0.1"])
    folders = [create_folder(tmp_path / name) for name in ("whole", "parts")]
    run_job(config, folders[0], [])

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(config, folders[1], [], on_epoch=stop)  # after the first epoch's checkpoint
    assert len(RunFolder(tmp_path / "parts").read_metrics()) == 1
    run_job(config, tmp_path / "parts", [], resume=True)
    assert_same_tensors(*folders)
    rows = RunFolder(tmp_path / "whole").read_metrics()
    assert 0.05 < rows[-1]["train/accuracy"] < 1


def test_the_true_class_of_a_mixed_image_is_the_one_it_has_most_of():
    random = torch.Generator().manual_seed(0)
    part = Split(
        torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=random),
        torch.randint(0, 10, (50,), generator=random),
    )
    served = batches(part, 16, mixup=1.0)
    for _, shares in served.iterate_epoch():  # a network that predicts the shares themselves
        assert shares.shape[1] == 10
        assert count_correct(shares, shares) == len(shares)


def test_every_preset_has_a_value_for_every_dataset_and_no_letter_is_mirrored():
    for preset in list_groups()["augment"]:
        plain = read_yaml(find_config_dir() / "augment" / f"{preset}.yaml")
        own = {data: exception for exception in plain.pop("exceptions", []) for data in exception.pop("data")}
        assert own.keys() <= set(registry.list_names("data"))
        for data in registry.list_names("data"):
            values = {"flip": 0, "rotate": 0} | plain | own.get(data, {})
            if data in LETTERS:
                assert values["flip"] == 0
                assert values["rotate"] <= 10
            elif preset != "none":
                assert values["flip"] == 0.5
            if data in ("svhn", "cifar10"):  # the last with an exception, and one without
                augment = compose.compose_config([f"data={data}", f"augment={preset}"]).augment
                assert (augment.name, augment.flip, augment.rotate) == (preset, values["flip"], values["rotate"])


def test_what_the_command_says_goes_before_a_presets_exceptions():
    assert compose.compose_config(["data=mnist", "augment=standard", "augment.flip=0.5"]).augment.flip == 0.5
    assert compose.compose_config(["augment.rotate=3", "data=mnist", "augment=standard"]).augment.rotate == 3
    jobs = compose.compose_request(["data=digits,cifar10", "augment=light"], multirun=True).jobs
    assert [job.config.augment.flip for job in jobs] == [0, 0.5]
    config = jobs[0].config
    assert from_dict(to_dict(config)) == config
    assert "exceptions" not in to_dict(config)["augment"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data=waves", "model=mlp", "augment=standard"],
            r"augment.flip=0.5 .*data=waves holds signals: use augm",
        ),
        (["data=waves", "model=mlp", "augment.erase=0.1"], r"augment.erase=0.1 \(augment=none\) changes images"),
        (["model=conv_autoencoder", "augment=strong"], "augment.mixup=0.2: reconstruction has no labels: must be 0"),
        (["augment.crop=28"], "augment.crop=28: must be less than the 28 pixels"),
        (["augment=standart"], "unknown augment 'standart'. Did you mean 'standard'?"),
        (["augment.flips=1"], "unknown key in augment 'flips'. Did you mean 'flip'?"),
        (["augment.flip=2"], "augment.flip=2: must be a number from 0 to 1"),
        (["augment.rotate=181"], "augment.rotate=181: must be a number from 0 to 180"),
        (["augment.mixup=-1"], "augment.mixup=-1: must be a number from 0 to 100"),
        (
            ["augment.scale=[1.2,0.8]"],
            r"augment.scale=\[1.2,0.8\]: must be \[LOW,HIGH\] with 0 < LOW ≤ HIGH ≤ 10",
        ),
        (["augment.scale=1.1"], r"augment.scale=1.1: must be \[LOW,HIGH\]"),
        (["augment.erase_area=[0,1]"], r"augment.erase_area=\[0,1\]: must be \[LOW,HIGH\] with 0 < LOW"),
        (["augment.crop=1.5"], "augment.crop=1.5: must be a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_augmented_is_refused_with_its_key(overrides, message):
    with pytest.raises(ValueError, match=message):
        build_parts(compose.compose_config(overrides), shapes_only=True)


def test_none_is_accepted_everywhere_and_geometry_for_reconstruction():
    assert (
        make_augmentation(
            compose.compose_config(["data=waves", "model=mlp"]), DatasetInfo("waves", 1, 9, ("a",), 1), "cpu"
        )
        is None
    )
    build_parts(compose.compose_config(["data=waves", "model=mlp"]), shapes_only=True)
    build_parts(compose.compose_config(["model=conv_autoencoder", "augment=standard"]), shapes_only=True)


def test_list_shows_the_presets(cnnbench):
    lines = cnnbench("list", "augment").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["light", "none", "standard", "strong"]


@pytest.mark.parametrize("preset", ["none", "strong"])
def test_a_preview_is_one_picture_and_no_run(preset, cnnbench, tmp_path):
    done = cnnbench("train", f"augment={preset}", "preview=true")
    assert done.returncode == 0, done.stderr
    picture = tmp_path / done.stdout.strip()
    assert picture.name == "augmented.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in picture.parent.iterdir()] == ["augmented.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "seed=0,1"], "preview=true draws the images of one run"),
        (["data=waves", "model=mlp"], "preview=true draws images, but data=waves holds signals"),
    ],
)
def test_a_preview_of_several_runs_or_of_signals_is_refused(arguments, message, cnnbench, tmp_path):
    done = cnnbench("train", "preview=true", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_box_holds_its_upper_left_ends_and_not_its_lower_right_ones():
    rows, columns = mask_box(*(torch.tensor([float(end)]) for end in (1, 3, 0, 2)), 4, 3)
    assert (rows & columns)[0, 0].int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]]
