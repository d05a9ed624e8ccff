"""Explain a finished run's network: filters, feature maps, receptive fields, heat maps, embedding, mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cnnbench.analysis import trace_fields
from cnnbench.analysis.embedding import embed_features
from cnnbench.analysis.receptive_field import Field
from cnnbench.data import DatasetInfo
from cnnbench.data.files.decoding import decode_all
from cnnbench.data.files.images import BadImage
from cnnbench.data.polarity import has_other_polarity
from cnnbench.experiment.measuring.heat_maps import HeatMaps
from cnnbench.experiment.measuring.measured_data import DataChoice
from cnnbench.experiment.measuring.measurement import Measurement, prepare_measurement, sample_images
from cnnbench.experiment.measuring.predict import get_decoding
from cnnbench.experiment.measuring.robustness import measure_changes
from cnnbench.models import collect_activations, compute_last_hidden
from cnnbench.models.layer_outputs import OUTPUT
from cnnbench.runs.explanation import Activation, Embedding, Explanation, Filters, Mistakes, SeenPart, ShownImage
from cnnbench.runs.shown_images import choose_of_each_class, find_worst_mistakes
from cnnbench.storage.text import format_path
from cnnbench.training.tasks import get_task

MOST_IMAGES = 8  # whose feature maps are drawn
MOST_BLOCKS, MOST_MAPS, MOST_UNITS = 8, 8, 256  # drawn of a network, of a block, of a dense layer
MOST_FILTERS = 32
LARGEST_MAP, LONGEST_MAP = 64, 256  # pixels of a side, and samples; larger maps are reduced
TESTED, EMBEDDED, SHIFTED = 10_000, 500, 500  # images at most for mistakes, embedding and shifts


def explain_run(
    path: Path,
    *,
    files: Sequence[str] = (),
    test: int = 5,
    choice: DataChoice | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> Explanation:
    """Find out what a run's network sees.

    Args:
        files: images to show; none shows images of the test split.
        test: how many of these, one of each class in turn.
        choice: as in `prepare_measurement`.

    Raises:
        ValueError: as `prepare_measurement`; more than `MOST_IMAGES` images, none that can be read, or files for a run
            of signals.
    """
    if not 1 <= test <= MOST_IMAGES:
        raise ValueError(f"--test {test}: must be from 1 to {MOST_IMAGES}")
    if len(files) > MOST_IMAGES:
        raise ValueError(f"--images: must be 1 to {MOST_IMAGES} images, and these are {len(files)}")
    ready = prepare_measurement(path, choice or DataChoice(), device=device, batch_size=batch_size)
    ready.model.eval()
    info, config = ready.trained.info, ready.trained.config
    shown, notes = _read_files(ready, files) if files else (_choose_tests(ready, test), [])
    pixels = torch.from_numpy(np.stack([one.pixels for one in shown]))
    batches = ready.trained.serve_images(pixels, ready.device)
    ((images, _),) = batches.iterate_epoch()
    if config.data.permute_pixels:
        permuted = batches.permute(pixels).numpy()
        shown = [replace(one, pixels=some) for one, some in zip(shown, permuted, strict=True)]
        notes = [*notes, "data.permute_pixels=true: images are shown as the network gets them, with pixels permuted"]
    fields = trace_fields(ready.model, info.input_shape)
    blocks = _find_blocks(ready.model, images, fields)
    filters, seen = _find_filters(ready.model, fields, info), _locate_fields(fields, blocks)
    found = Explanation(
        config.model.name,
        config.data.name,
        info.class_names,
        _describe_blocks(blocks, shown),
        filters,
        seen,
        omitted=({} if filters else {"filters": "no_filters"}) | ({} if seen else {"seen": "no_maps"}),
        notes=[*ready.found.notes, *notes],
    )
    if not get_task(ready.model).has_classes:
        missing = dict.fromkeys(("heat_maps", "embedding", "mistakes", "shift"), "no_classes")
        return replace(found, omitted={**found.omitted, **missing})
    maps = HeatMaps(ready.model, info, fields)
    found = replace(
        found,
        images=maps.add(found.images, images),
        grad_cam_layer=maps.layer,
        window=maps.window,
        omitted={**found.omitted, **maps.omitted},
    )
    return _add_tests(found, ready)


def _choose_tests(ready: Measurement, count: int) -> list[ShownImage]:
    """Test images of each class in turn."""
    split = ready.found.split
    labels = split.labels.cpu()
    order = torch.from_numpy(choose_of_each_class(labels.numpy(), count))
    has_classes = get_task(ready.model).has_classes
    return [
        ShownImage(str(place), image.cpu().numpy(), True, int(labels[place]) if has_classes else None)
        for place, image in zip(order.tolist(), split[order].images, strict=True)
    ]


def _read_files(ready: Measurement, files: Sequence[str]) -> tuple[list[ShownImage], list[str]]:
    """The images in some files, prepared as for `cnnbench predict`, and what is wrong with them."""
    trained = ready.trained
    if trained.info.dimensions != 2:
        name, path = trained.info.name, str(trained.folder.path)
        raise ValueError(f"{path!r} was trained on signals ({name}): --images takes images; --test shows test signals")
    shown, notes = [], []
    for file, image in zip(files, decode_all(files, get_decoding(trained), workers=0), strict=True):
        if isinstance(image, BadImage):
            notes.append(f"{format_path(file)}: {image.reason}")
        else:
            shown.append(ShownImage(file, image))
    if not shown:
        raise ValueError(f"--images: none can be read: {'; '.join(notes)}")
    if trained.polarity and (
        turned := has_other_polarity(np.stack([one.pixels for one in shown]), trained.polarity).sum()
    ):
        notes.append(
            f"{turned} of {len(shown)} images have light and dark the other way round than the training images"
        )
    return shown, notes


def _find_filters(model: nn.Module, fields: Mapping[str, Field], info: DatasetInfo) -> Filters | None:
    """The weights of the first layer that has some; None if they are no picture."""
    for name in fields:  # in the order of computation
        module = model.get_submodule(name)
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() < 2:
            continue
        is_dense = isinstance(module, nn.Linear)
        if is_dense and weight.shape[1] != int(np.prod(info.input_shape)):
            return None
        shape = info.input_shape if is_dense else weight.shape[1:]
        values = weight.detach()[:MOST_FILTERS].float().cpu().reshape(-1, *shape)
        return Filters(name, is_dense, values.numpy(), len(weight))
    return None


def _find_blocks(model: nn.Module, images: Tensor, fields: Mapping[str, Field]) -> dict[str, Tensor]:
    """What each block gives, with its maps as (N, C, h, w) or (N, C, l), or its units as (N, D).

    Left out are blocks that change nothing, such as dropout after training, and those whose dimensions are neither.
    """
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        activations = collect_activations(model, images)
    activations.pop(OUTPUT)
    last: Tensor | None = None
    for name, tensor in activations.items():
        dims = fields[name].dims if name in fields else ()
        if tensor.dim() == images.dim() and all(dims) and None not in dims:
            # Some networks keep the channels last.
            tensor = torch.movedim(tensor, [dim or 0 for dim in dims], [*range(-len(dims), 0)])
        elif tensor.dim() != 2:
            continue
        if last is None or last.numel() != tensor.numel() or not torch.equal(last.flatten(), tensor.flatten()):
            found[name] = tensor.float()
        last = tensor
    return found


def _spread(names: Sequence[str]) -> list[str]:
    """Some of many names, evenly spread; the first and the last among them."""
    if len(names) <= MOST_BLOCKS:
        return [*names]
    return [names[round(place)] for place in np.linspace(0, len(names) - 1, MOST_BLOCKS)]


def _locate_fields(fields: Mapping[str, Field], blocks: Mapping[str, Tensor]) -> list[SeenPart]:
    """What the middle output of each block with maps sees; of blocks that see the same, the first."""
    parts: dict[tuple[int, ...], SeenPart] = {}
    for name, tensor in blocks.items():
        field = fields.get(name)
        if field is None or tensor.dim() < 3:
            continue
        middles = [(side - 1) // 2 for side in tensor.shape[2:]]
        spans = tuple(axis.compute_span(middle) for axis, middle in zip(field.axes, middles, strict=True))
        parts.setdefault(field.size, SeenPart(name, field.size, spans))
    chosen = _spread([part.block for part in parts.values()])
    return [part for part in parts.values() if part.block in chosen]


def _describe_blocks(blocks: Mapping[str, Tensor], shown: Sequence[ShownImage]) -> list[ShownImage]:
    """Add to each image what some blocks give for it."""
    kept = {}
    for name in _spread([*blocks]):
        tensor = blocks[name]
        if tensor.dim() == 2:
            kept[name] = tensor[:, :MOST_UNITS].cpu().numpy()
            continue
        # The maps that differ most between places: those of dead channels say nothing.
        spread = tensor.flatten(2).std(2, correction=0).mean(0)
        channels = spread.argsort(descending=True, stable=True)[:MOST_MAPS].sort().values
        kept[name] = _reduce(tensor[:, channels]).cpu().numpy()
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in blocks.items()}
    return [
        replace(one, activations=[Activation(name, values[place], shapes[name]) for name, values in kept.items()])
        for place, one in enumerate(shown)
    ]


def _reduce(maps: Tensor) -> Tensor:
    """Maps of at most `LARGEST_MAP` pixels, or `LONGEST_MAP` samples, a side, by means."""
    if maps.dim() == 3:
        return nn.functional.adaptive_avg_pool1d(maps, min(LONGEST_MAP, maps.shape[2]))
    return nn.functional.adaptive_avg_pool2d(maps, (min(LARGEST_MAP, maps.shape[2]), min(LARGEST_MAP, maps.shape[3])))


def _add_tests(found: Explanation, ready: Measurement) -> Explanation:
    """Add what test images show: the accuracy under shifts, the most confident mistakes, the embedding of some."""
    whole, info = ready.found.split, ready.trained.info
    # All shifts up to the longest are measured, and for images their number grows with its square.
    longest = max(1, min(3 if info.dimensions == 2 else 5, min(info.size) - 1))
    shift = measure_changes(ready, ["shift"], split="test", max_images=SHIFTED, max_shift=longest)
    split = whole[sample_images(len(whole), TESTED)] if len(whole) > TESTED else whole
    measured = ready.evaluate(ready.serve(split), keep_probabilities=True).classified
    assert measured is not None
    assert measured.probabilities is not None, "they are kept"
    omitted = dict(found.omitted)
    worst = find_worst_mistakes(measured.labels, measured.predictions, measured.probabilities)
    mistakes = None
    if len(worst):
        images = ready.serve(split).permute(split[torch.from_numpy(worst)].images.cpu()).numpy()
        predicted = {key: getattr(measured, key) for key in ("labels", "predictions", "probabilities")}
        mistakes = Mistakes(images, predicted)
    else:
        omitted["mistakes"] = "no_mistakes"
    places = sample_images(len(split), EMBEDDED)
    embedding = None
    if len(places) < 3:
        omitted["embedding"] = "few_images"
    else:
        batches = ready.serve(split[places]).iterate_epoch()
        with torch.no_grad():
            parts = [compute_last_hidden(ready.model, images) for images, _ in batches]
        features = torch.cat(parts).float().cpu().numpy()
        labels, wrong = measured.labels[places], (measured.labels != measured.predictions)[places]
        embedding = Embedding(features.shape[1], labels, wrong, embed_features(features))
    return replace(found, shift=shift, mistakes=mistakes, embedding=embedding, omitted=omitted)
