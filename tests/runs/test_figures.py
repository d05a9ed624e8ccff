"""Pictures: that they show what they must, read off the figure before it is drawn, and that files are real PNGs."""

import itertools

import numpy as np
import pytest
from PIL import Image

from cnnbench.metrics import count_confusion
from cnnbench.metrics.ranking import rank_classes
from cnnbench.runs import figures, pictures, probability_figures
from cnnbench.runs.captions import ENGLISH, describe_answer, localize_number
from cnnbench.runs.class_names import fit_names
from cnnbench.runs.contents import write_evaluation
from cnnbench.runs.explanation_figures import separate_boxes
from cnnbench.runs.shown_images import choose_of_each_class, choose_reconstructions, find_worst_mistakes


def confusion(k):
    return np.random.default_rng(0).integers(0, 30, (k, k)) + 500 * np.eye(k, dtype=int)


@pytest.mark.parametrize(("k", "numbers"), [(2, 4), (10, 100), (20, 400), (100, 0)])
def test_the_confusion_matrix_labels_its_axes_and_writes_counts_where_they_fit(k, numbers, tmp_path):
    counts = confusion(k)
    figure = figures.plot_confusion(counts, [f"c{i}" for i in range(k)])
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [text.get_text() for text in axes.texts] == [str(n) for n in counts.ravel() if n > 0][:numbers]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"c{i}" for i in range(k)]
    assert axes.get_yaxis().get_inverted(), "the first class is at the top"
    np.testing.assert_allclose(axes.collections[0].get_array(), counts / counts.sum(1, keepdims=True))
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, k - 0.5), (k - 0.5, -0.5)), "no cell lies outside"
    figures.save_figure(figure, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert min(image.size) > 400


def test_reconstructions_stand_below_their_images(tmp_path):
    rng = np.random.default_rng(0)
    losses = rng.random(20)
    chosen = choose_reconstructions(losses)
    assert chosen[:8].tolist() == list(range(8))
    assert losses[chosen[8:]].tolist() == sorted(losses, reverse=True)[:8]
    for channels in (1, 3):
        images, made = rng.integers(0, 256, (2, 16, channels, 6, 6), dtype=np.uint8)
        figure = figures.plot_reconstructions(images, made, losses[chosen])
        first, worst = (axes.images[0].get_array() for axes in figure.axes)
        assert np.array_equal(np.asarray(first)[:6, 6:12].reshape(6, 6, channels), images[1].transpose(1, 2, 0))
        assert np.array_equal(np.asarray(worst)[6:, :6].reshape(6, 6, channels), made[8].transpose(1, 2, 0))
        assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == [
            f"{x:.3f}" for x in losses[chosen[8:]]
        ]
        figures.save_figure(figure, tmp_path / "x.png")


def test_curves_without_classes_show_the_loss_alone():
    figure = figures.plot_curves([{"epoch": 1, "train/loss": 0.5, "val/loss": 0.6}])
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss (mean squared error)"]


@pytest.mark.filterwarnings("ignore:Glyph")  # the font lacks some scripts; the names still must not break anything
def test_names_with_markup_are_shown_as_they_are(tmp_path):
    names = ["$x^$", "<b>", "a" * 60, "日本"]
    figures.save_figure(figures.plot_confusion(confusion(4), names), tmp_path / "x.png")


def test_curves_show_training_and_validation():
    rows = [
        {"epoch": e, "train/loss": 1 / e, "val/loss": 2 / e, "train/accuracy": 0.5, "val/accuracy": None}
        for e in (1, 2, 3)
    ]
    figure = figures.plot_curves(rows)
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [2, 1, 2 / 3])
    assert [line.get_label() for line in accuracy.lines] == ["train"]
    assert loss.get_xlabel() == "epoch"
    assert (accuracy.get_ylabel(), list(accuracy.lines[0].get_ydata())) == ("accuracy (%)", [50, 50, 50])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["train", "validation"]


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy", "val/f1_macro"])
def test_the_best_epoch_is_marked_where_validation_chose_it(monitor):
    rows = [
        {
            "epoch": e,
            "train/loss": 1,
            "train/accuracy": 0.5,
            "val/loss": e,
            "val/accuracy": e / 9,
            "val/f1_macro": e / 8,
        }
        for e in (1, 2, 3)
    ]
    (legend,) = figures.plot_curves(rows, 2, monitor).legends
    text = {"val/loss": "2.0000", "val/accuracy": "22.22%", "val/f1_macro": "0.2500"}[monitor]
    assert [one.get_text() for one in legend.get_texts()] == ["train", "validation", f"best epoch 2: {monitor} {text}"]
    rings = [
        line.get_xydata().tolist() for axes in legend.figure.axes for line in axes.lines if len(line.get_xdata()) < 2
    ]
    assert rings == {"val/loss": [[[2, 2]]], "val/accuracy": [[[2, pytest.approx(200 / 9)]]]}.get(monitor, [])
    rows = [{**row, monitor: None} for row in rows]  # without a validation split
    (legend,) = figures.plot_curves(rows, 3, monitor).legends
    assert not [one for one in legend.get_texts() if "best" in one.get_text()]


def test_a_run_of_one_epoch_has_no_parts_of_epochs():
    (axes,) = figures.plot_curves([{"epoch": 1, "train/loss": 0.5}]).axes
    assert [place for place in axes.get_xticks() if 0.5 < place < 1.5] == [1]


def test_mistakes_are_the_surest_wrong_predictions_in_order():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.01, 0.99]])
    predicted = {
        "labels": np.array([0, 0, 0, 0]),
        "predictions": probabilities.argmax(1),
        "probabilities": probabilities,
    }
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(5, 2).repeat(5, 3)
    figure = figures.plot_mistakes(images[find_worst_mistakes(**predicted)], predicted, ["cat", "dog"])
    axes = figure.axes[0]
    assert [image.get_array()[0, 0].tolist() for image in axes.images] == [[3] * 3, [1] * 3, [2] * 3]
    assert axes.texts[0].get_text() == "true cat\npred. dog (99%)"
    assert "3 of 3 among 4 test images" in figure.get_suptitle()


def test_samples_are_of_each_class_in_turn():
    assert choose_of_each_class(np.array([2, 2, 0, 2, 0, 1]), 5).tolist() == [2, 5, 0, 4, 1]
    assert choose_of_each_class(np.array([1, 1]), 5).tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(1, 8, 6), (3, 8, 8), (2, 30)])
def test_samples_have_their_class_below_a_title(shape, tmp_path):
    names = ["</text><script>$x^", "b" * 60, "\u202eevil\n"]
    images = np.arange(7 * np.prod(shape)).reshape(7, *shape).astype(np.uint8 if len(shape) == 3 else np.float32)
    figure = figures.plot_samples(images, np.arange(7) % 3, names, 1234)
    (axes,) = figure.axes
    kind = "images" if len(shape) == 3 else "signals"
    assert figure.get_suptitle() == f"7 of 1,234 training {kind}, before augmentation"
    assert [text.get_text() for text in axes.texts] == [fit_names(names).shown[k % 3] for k in range(7)]
    assert len(axes.images) == (7 if len(shape) == 3 else 0)
    figures.save_figure(figure, tmp_path / "x.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_no_mistakes_or_many_can_be_drawn(channels, tmp_path):
    for wrong in (0, 400):
        labels = np.zeros(400, dtype=int)
        probabilities = np.tile([0.9, 0.1] if wrong == 0 else [0.1, 0.9], (400, 1))
        predicted = {"labels": labels, "predictions": probabilities.argmax(1), "probabilities": probabilities}
        images = np.zeros((400, channels, 8, 8), dtype=np.uint8)
        figure = figures.plot_mistakes(images[find_worst_mistakes(**predicted)], predicted, ["a", "b"])
        assert len(figure.axes[0].images) == min(wrong, 25)
        figures.save_figure(figure, tmp_path / f"{wrong}.png")


def test_signals_are_drawn_as_lines_of_their_own_height_in_one_set_of_axes(tmp_path):
    signals = np.array([[[0, 1, 0, 5]], [[-9, 9, 9, 9]], [[7, 7, 7, 7]], [[-3e38, 0, 0, 3e38]]], dtype=np.float32)
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    predicted = {"labels": np.zeros(4, int), "predictions": probabilities.argmax(1), "probabilities": probabilities}
    figure = figures.plot_mistakes(signals[find_worst_mistakes(**predicted)], predicted, ["low\nand flat", "$"])
    (axes,) = figure.axes
    assert "3 of 3 among 4 test signals" in figure.get_suptitle()
    assert axes.texts[0].get_text() == "true low and flat\npred. \\$ (80%)"
    heights = [line.get_ydata() for line in axes.lines]
    assert len(heights) == 3, "surest first: the last signal, the third, the second"
    bottom, top = 0.92 + 0.34, 0.08 + 0.34
    np.testing.assert_allclose(heights[0], [bottom, (bottom + top) / 2, (bottom + top) / 2, top])
    np.testing.assert_allclose(heights[1], bottom)
    np.testing.assert_allclose(heights[2], [bottom, top, top, top])
    for place, line in enumerate(axes.lines):
        np.testing.assert_allclose(line.get_xdata(), place + np.linspace(0.08, 0.92, 4))
    figures.save_figure(figure, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert min(image.size) > 200


def test_each_channel_of_a_signal_has_its_line_and_colour():
    predicted = {"labels": np.zeros(2, int), "predictions": np.ones(2, int), "probabilities": np.ones((2, 2)) / 2}
    (axes,) = figures.plot_mistakes(np.random.default_rng(0).random((2, 3, 9)), predicted, ["a", "b"]).axes
    assert [line.get_color() for line in axes.lines] == ["C0", "C1", "C2"] * 2


def test_captions_of_long_names_stay_apart(tmp_path):
    predicted = {"labels": np.zeros(5, int), "predictions": np.ones(5, int), "probabilities": np.ones((5, 2))}
    figure = figures.plot_mistakes(np.zeros((5, 1, 9)), predicted, ["w" * 10, "ecg_anomaly_long"])
    figures.save_figure(figure, tmp_path / "x.png")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_of_many_classes_the_most_frequent_confusions_are_drawn(tmp_path):
    labels, names = np.arange(150), [f"class {k}" for k in range(150)]
    predictions = np.where(labels < 3, 9, labels)
    for count in (150, 5_000):  # of the second, the matrix is sparse
        found = count_confusion(np.append(labels, [7] * 5), np.append(predictions, [8] * 5), count)
        figure = figures.plot_confused_pairs(found, [*names, *map(str, range(150, count))])
        axes = figure.axes[0]
        written = [label.get_text() for label in axes.get_yticklabels()]
        assert written == ["class 7 → class 8", "class 0 → class 9", "class 1 → class 9", "class 2 → class 9"]
        assert [bar.get_width() for bar in axes.patches] == [5, 1, 1, 1]
        assert f"155 images of {count:,} classes, 94.84% correct" in axes.get_title()
    arrays = {"labels": labels, "predictions": predictions, "probabilities": np.eye(150, dtype=np.float32)}
    write_evaluation(tmp_path, class_names=names, confusion=found[:150, :150].toarray(), per_class=[], **arrays)
    pictures.draw_confusion(tmp_path)
    with Image.open(tmp_path / "confusion_matrix.png") as image:
        assert max(image.size) < 1000


def test_boxes_that_cover_each_other_are_moved_apart_and_others_stay():
    centres = np.array([[0.0, 0.0], [0.1, 0.1], [0.0, 0.0], [0.3, 0.05], [9.0, 9.0]])
    sizes = np.array([(1.0, 0.3)] * 4 + [(0.2, 0.3)])
    found = separate_boxes(centres, sizes)
    for first in range(5):
        for second in range(first):
            gaps = np.abs(found[first] - found[second]) - (sizes[first] + sizes[second]) / 2
            assert gaps.max() > -1e-5, (first, second)
    assert found[4].tolist() == [9.0, 9.0]
    assert np.abs(found[:4] - centres[:4]).max() < 0.6


def test_portuguese_captions_have_a_decimal_comma():
    words = {"true": "classe", "answer": "resposta", "decimal": ","}
    assert describe_answer(words, "7", "9", 0.996) == ["classe 7", "resposta 9 (99,6%)"]
    assert describe_answer(words, None, None, 0.0) == []
    assert localize_number("10,000.5", words) == "10.000,5"
    assert localize_number("10,000.5", ENGLISH) == "10,000.5"


def test_rankings_are_drawn_with_their_areas(tmp_path):
    random = np.random.default_rng(0)
    labels, probabilities = random.integers(0, 2, 50), random.dirichlet((1, 1, 1), 50)
    found = rank_classes(labels, probabilities)
    figure = probability_figures.plot_rankings(found, ["_cat", "dog", "absent"])
    roc, precision_recall = figure.axes
    assert [len(axes.lines) for axes in figure.axes] == [3, 2], "the third class has no images; guessing is a line"
    (legend,) = figure.legends
    areas = [f"{one.roc_auc:.4f}, {one.average_precision:.4f}" for one in found[:2]]
    assert [text.get_text() for text in legend.get_texts()] == [f"{areas[0]}: _cat", f"{areas[1]}: dog"]
    assert np.trapezoid(roc.lines[0].get_ydata(), roc.lines[0].get_xdata()) == pytest.approx(found[0].roc_auc)
    assert precision_recall.get_xlabel() == "sensitivity (recall)"
    figures.save_figure(figure, tmp_path / "x.png")
