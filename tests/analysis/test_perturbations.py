"""Each change of images against hand-made small ones or independent code, and measures against a closed form."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from cnnbench.analysis.perturbations import (
    KINDS,
    add_noise,
    blur,
    change_contrast,
    choose_kinds,
    list_cases,
    measure_cases,
    occlude,
    rescale,
    rotate,
    shift,
)
from cnnbench.cli.run_options import CHANGES


def image(rows):
    return torch.tensor(rows, dtype=torch.float32)[None, None]


def test_a_shift_moves_down_and_right_and_fills_with_zero():
    before = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).byte()
    assert shift(before, 1, -1)[0, 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
    assert shift(before, 0, 2)[0, 0].tolist() == [[0, 0, 1], [0, 0, 4], [0, 0, 7]]
    assert shift(torch.tensor([[[1.5, 2, 3]]]), 1).tolist() == [[[0, 1.5, 2]]]


def test_a_rotation_turns_counter_clockwise_also_where_sides_differ():
    square, wide = torch.rand(2, 3, 5, 5) * 255, torch.rand(1, 1, 4, 6) * 255
    torch.testing.assert_close(rotate(square, 90), torch.rot90(square, 1, (2, 3)), atol=0.01, rtol=0)
    torch.testing.assert_close(rotate(wide, 180), wide.flip(2, 3), atol=0.01, rtol=0)
    # The bar lies along the longer side; upright, its ends leave the image.
    bar = image([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    torch.testing.assert_close(rotate(bar, 90), image([[0, 0, 1, 0, 0]] * 3), atol=1e-4, rtol=0)


def test_half_the_size_leaves_a_black_border():
    ones = image([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert torch.equal(rescale(torch.ones(1, 1, 4, 4), 0.5), ones)


@pytest.mark.parametrize("sigma", [0.5, 2])
def test_a_blur_is_scipys(sigma):
    pixels = torch.rand(2, 3, 9, 7) * 255
    reach = int(np.ceil(3 * sigma))
    expected = gaussian_filter(pixels.numpy(), sigma, axes=(2, 3), radius=reach, mode="nearest")
    np.testing.assert_allclose(blur(pixels, sigma).numpy(), expected, rtol=1e-4)


def test_contrast_is_about_the_mean_of_each_image():
    pixels = torch.cat([image([[100, 200]]), image([[0, 10]])]).byte()
    assert change_contrast(pixels, 0.5).flatten().tolist() == [125, 175, 2.5, 7.5]


def test_noise_has_its_strength_and_stays_within_pixels():
    grey, drawn = torch.full((1, 1, 100, 100), 128.0), torch.randn(1, 1, 100, 100)
    assert float((add_noise(grey, drawn, 0.1) - grey).std()) == pytest.approx(25.5, rel=0.05)
    assert add_noise(grey, drawn, 5.0).aminmax() == (0, 255)
    signal = torch.tensor([[[0.0, 4.0]], [[0.0, 40.0]]])  # standard deviations 2 and 20
    assert add_noise(signal, torch.ones(2, 1, 2), 0.5).tolist() == [[[1, 5]], [[10, 50]]]


def test_one_square_of_each_image_is_covered():
    covered = occlude(torch.ones(3, 2, 10, 8), torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.5, 0.0]]), 0.25)
    black = [torch.nonzero(one[1] == 0).tolist() for one in covered]
    assert black[0] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert black[1] == [[8, 6], [8, 7], [9, 6], [9, 7]]
    assert black[2][0] == [4, 0]
    assert torch.equal(covered[:, 0], covered[:, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_depends_on_the_image_and_its_index_alone(kind):
    pixels = (torch.rand(4, 3, 12, 10) * 255).byte()
    for case in list_cases(kind, (12, 10)):
        whole = case.apply(pixels, range(4))
        assert whole.shape == pixels.shape
        assert not torch.equal(whole, pixels.float())
        torch.testing.assert_close(case.apply(pixels[2:], [2, 3]), whole[2:], atol=1e-3, rtol=0)


def test_shifts_go_along_both_axes_and_not_out_of_the_image():
    cases = list_cases("shift", (28, 28))
    assert len({case.arguments for case in cases}) == len(cases) == 24
    assert [case.strength for case in cases] == [1] * 8 + [2] * 16
    assert len(list_cases("shift", (28, 28), 4)) == 80
    assert {case.arguments for case in list_cases("shift", (50,), 1)} == {(-1,), (1,)}
    assert len(list_cases("shift", (2, 28))) == 8


def test_an_unknown_kind_is_answered_with_the_nearest_and_signals_refuse_what_is_of_images():
    with pytest.raises(ValueError, match=r"unknown kind of change 'rotate'. Did you mean 'rotation'"):
        choose_kinds(["rotate"], 2)
    with pytest.raises(ValueError, match="--kind blur changes images, and the run's data are signals: use shift or no"):
        choose_kinds(["blur"], 1)
    assert choose_kinds(["shift", "blur"], 1) == ["shift"]
    assert choose_kinds([], 1) == ["shift", "noise"]
    assert choose_kinds(["noise", "shift"], 2) == ["shift", "noise"]
    assert tuple(choose_kinds([], 2)) == tuple(KINDS) == CHANGES


def test_the_shift_curve_of_a_linear_network_is_the_closed_form():
    """Sixteen images with one lit pixel; the network answers the row of that pixel, and row 0 for a black image."""
    pixels = torch.eye(16).view(16, 1, 4, 4) * 255
    net = nn.Linear(16, 4, bias=False)
    net.weight.data = torch.eye(4).repeat_interleave(4, 1)
    labels = np.repeat(np.arange(4), 4)

    def predict(case):
        changed = pixels if case is None else case.apply(pixels, range(16))
        return net(changed.flatten(1)).argmax(1).numpy()

    cases = list_cases("shift", (4, 4), 1)
    found = {case.arguments: figures for case, *figures in measure_cases(predict, labels, cases)}
    assert found.pop(()) == [1.0, 1.0]
    for (down, right), figures in found.items():
        # Sideways, what stays inside keeps its row. Otherwise only pixels of row 0 that leave the image are right.
        left_of_row_0 = 4 if down < 0 else abs(right)
        kept = 4 * (4 - abs(right)) if down == 0 else 0
        assert figures == [(kept + left_of_row_0) / 16] * 2
