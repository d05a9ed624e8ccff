"""A finished run's best weights, measured on any split of its own or another dataset."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnnbench import registry
from cnnbench.config.schema import Config
from cnnbench.data import Dataset, DatasetInfo, Split, data_shape
from cnnbench.data.contents import digest
from cnnbench.data.memory import limit_data_of_run
from cnnbench.experiment.build import batches_of, data_settings, load_dataset
from cnnbench.experiment.data_record import NOT_ITS_DATA, Known, difference, read_data, seen, still_there
from cnnbench.experiment.record import draw_in_turn, record_evaluation
from cnnbench.experiment.trained import load_trained
from cnnbench.reproducibility import set_deterministic
from cnnbench.storage.atomic import open_folder
from cnnbench.storage.plain_data import read_json, write_json
from cnnbench.storage.text import format_path, make_printable
from cnnbench.training.device import resolve_device
from cnnbench.training.loop import evaluate
from cnnbench.training.tasks import task_of

Found = tuple[Dataset, Split, list[str]]  # what is measured, its split, and what a reader must know of it
SHOWN = 5  # classes that a note names
LEARNED = ("train", "val", "test")  # the more a run has learned from a split's images, the earlier


def evaluate_run(
    path: Path,
    *,
    split: str = "test",
    data: str | None = None,
    options: Mapping[str, Any] | None = None,
    folder: str | None = None,
    root: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    out: Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Measure a run's best weights on a split, and write the figures beside the run.

    Args:
        split: train, val or test.
        data: another dataset of the same classes and channels; resized to the run's image size.
        options: what that dataset's own yaml adds.
        folder: what its `path` is instead: another folder of images, or another CSV file. One that has no test split
            is measured whole.
        root: where datasets are, if not where the run found them.
        out: where the figures go, instead of a folder in the run's `evaluations` that holds no other result.

    Returns:
        The folder written to and the metrics, with `notes` on what a reader must know of them.

    Raises:
        ValueError: not a finished run, no such split, other classes, none of the run's images, or nowhere to write.
    """
    trained = load_trained(path)
    trained.refuse_beyond_memory(1)
    config, info = trained.config, trained.info
    is_other = _point_at(config, info, data, options, folder)
    name = config.data.name
    if root is not None:  # the user's own folder, and not the one a stranger's config names
        config.data.root, config.data.download = root, True
    config.data.image_size = [*info.size] if info.dimensions == 2 else None
    config.data.normalize = "none"  # the run's own constants will do
    config.trainer.eval_batch_size = batch_size or config.trainer.eval_batch_size
    _check_shape(config, info)
    known = read_data(trained.folder.path)
    dataset, chosen, notes = (_other if is_other else _own)(config, split, known, info)
    if split not in known or not known[split].is_same(dataset.info, chosen):
        notes += _absent(info, chosen)
    notes += _skipped(dataset)
    trained.refuse_beyond_memory(min(config.trainer.eval_batch_size, len(chosen)))
    trained.use_threads()
    target = resolve_device(device or "auto")
    set_deterministic(config.trainer.deterministic)  # as training did: on a GPU other algorithms give other bits
    model = trained.model_on(target)
    # Prepared as in training: the constants are those of the run, whatever another dataset's would be.
    dataset = replace(dataset, mean=trained.mean, std=trained.std)
    batches = batches_of(chosen, dataset=dataset, config=config, device=target)
    measured = evaluate(
        model,
        batches,
        task=task_of(model),
        num_classes=info.num_classes,
        autocast=trained.autocast_on(target),
        keep_predictions=True,
    )
    where = {} if folder is None else {"path": format_path(folder)}
    metrics = {"data": name, **where, "split": split, "images": len(chosen), **measured.scores()}
    if "f1_macro" in metrics and measured.confusion is not None:
        metrics["f1_macro"] = _f1_of_those_present(measured.confusion)
    metrics |= {"images_sha256": digest(dataset.info, chosen), "notes": notes}
    place = "" if folder is None else re.sub(r"[^\w.-]+", "_", Path(folder).absolute().name) + "_"
    evaluations = trained.folder.path / "evaluations"
    serve = partial(batches_of, dataset=dataset, config=config, device=target)

    def write(written: Path) -> None:
        written.mkdir(parents=True, exist_ok=True)
        draw_in_turn(record_evaluation(written, measured, chosen, dataset, model=model, serve=serve))
        write_json(written / "metrics.json", metrics)

    try:
        if out is None:
            evaluations.mkdir(exist_ok=True)
            with open_folder(evaluations) as inside:
                write(made := _new_folder(inside, f"{name}_{place}{split}", metrics))
            written = evaluations / made.name
        else:
            write(written := _checked(out, metrics))
    except OSError as error:
        place = str(evaluations if out is None else out)
        raise ValueError(
            f"{format_path(place)} cannot be written ({error.strerror}): --out DIR names another folder for the result"
        ) from None
    return written, metrics


def _f1_of_those_present(confusion: np.ndarray) -> float:
    """The mean F1 score of the classes that have images; one without may be predicted, but has no score of its own."""
    true, predicted = confusion.sum(1), confusion.sum(0)
    present = true > 0
    return float((2 * confusion.diagonal()[present] / (true + predicted)[present]).mean())


@limit_data_of_run()
def _own(config: Config, split: str, known: Mapping[str, Known], info: DatasetInfo) -> Found:
    """A split of the run's own data: what of it is as it was."""
    classes, kept, chosen = list(info.class_names), split in known and known[split].hashes is not None, None
    try:
        dataset = load_dataset(config, classes=classes)
        said = difference(known, dataset)
    except ValueError as error:  # what is left cannot be cut as it was
        if not kept:
            raise
        said = f"what is left cannot be split as it was: {error}"
    else:
        _check_classes(config.data.name, dataset.info.class_names, info.class_names)
        chosen = _split(dataset, split)
        if not known:
            return dataset, chosen, ["the run's folder does not say what its data were: they may have changed"]
        if not said:
            return dataset, chosen, []
    said = f"{NOT_ITS_DATA}: {said}"
    if chosen is not None and split not in known:
        return dataset, *_unseen(split, chosen, known, said)
    if chosen is not None and known[split].is_same(dataset.info, chosen):
        return dataset, chosen, [f"{said}. Its {split} images are as they were"]
    total, named = known[split].images, "--path DIR" if "path" in config.data.options else f"--data {config.data.name}"
    if kept:
        dataset = load_dataset(_uncut(config), test_on_all=True, classes=classes)
        candidates = dataset.train if split == "val" and dataset.val is None else _split(dataset, split)
        chosen = candidates[still_there(known, split, candidates)]
        if len(chosen):
            return dataset, chosen, [f"{said}. Measured are those {len(chosen)} of its {total} {split} images alone"]
    raise ValueError(f"{said}. None of its {total} {split} images can be found here; {named} measures it on others")


def _other(config: Config, split: str, known: Mapping[str, Known], info: DatasetInfo) -> Found:
    """A split of other data, without the images that the run has seen."""
    whole = split == "test"
    dataset = load_dataset(_uncut(config) if whole else config, test_on_all=whole, classes=list(info.class_names))
    _check_classes(config.data.name, dataset.info.class_names, info.class_names)
    chosen = _split(dataset, split)
    if split not in known or known[split].is_same(dataset.info, chosen):
        return dataset, chosen, []
    if config.data.name == info.name and known[split].hashes is None:
        return dataset, chosen, [f"{NOT_ITS_DATA}: {difference({split: known[split]}, dataset)}"]
    return dataset, *_unseen(split, chosen, known)


def _unseen(split: str, chosen: Split, known: Mapping[str, Known], said: str = "") -> tuple[Split, list[str]]:
    """Images without those that a run has learned from more than their split may be; and a note on what they are."""
    earlier = tuple(LEARNED[: LEARNED.index(split)])
    used, own = seen(known, earlier, chosen), seen(known, (split,), chosen)
    counts = int((own & ~used).sum()), int(used.sum()), int((~own & ~used).sum())
    if not any(counts[:2]):
        return chosen, [said] if said else []
    verbs = {"train": "trained", "val": "validated", "test": "tested"}
    left_out = f"it was {' or '.join(verbs[name] for name in earlier)} on {counts[1]}, which are left out, "
    said = (
        f"{said or NOT_ITS_DATA}: of {len(chosen)} images it was {verbs[split]} on {counts[0]}, "
        f"{left_out if earlier else ''}and {counts[2]} are {'new to it' if split == 'test' else 'others'}"
    )
    if not counts[0] + counts[2]:
        raise ValueError(said)
    return chosen[torch.nonzero(~used).flatten()], [said]


def _absent(info: DatasetInfo, chosen: Split) -> list[str]:
    """A note on the classes without an image."""
    supports = chosen.labels.bincount(minlength=info.num_classes).tolist()
    absent = [name for name, support in zip(info.class_names, supports, strict=True) if not support]
    if not absent:
        return []
    shown = ", ".join(repr(format_path(one)) for one in absent[:SHOWN])
    more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
    return [f"no images of {shown}{more}: the figures are over the classes that have some"]


def _skipped(dataset: Dataset) -> list[str]:
    """A note on the files that cannot be read."""
    if not dataset.skipped:
        return []
    file, reason = dataset.skipped[0]
    count = len(dataset.skipped)
    return [f"{count} file{'s' * (count > 1)} cannot be read as images and are left out; the first is {file}: {reason}"]


def _uncut(config: Config) -> Config:
    data = config.data.model_copy(update={"val_fraction": 0.0, "train_limit": None})
    return config.model_copy(update={"data": data})


def _split(dataset: Dataset, name: str) -> Split:
    found: Split | None = {"train": dataset.train, "val": dataset.val, "test": dataset.test}.get(name)
    if found is None or not len(found):
        raise ValueError(f"--split {name}: the run has no such split. Accepted: train, test and, if cut, val")
    return found


def _new_folder(folder: Path, name: str, metrics: Mapping[str, Any]) -> Path:
    """A folder of that name, or one with a number behind it where that holds the result of another measurement."""
    for number in count(1):
        place = folder / (name if number == 1 else f"{name}_{number}")
        if not (place / "metrics.json").exists() or _holds(place, metrics):
            return place
    raise AssertionError("numbers do not end")


def _checked(out: Path, metrics: Mapping[str, Any]) -> Path:
    if out.is_dir() and any(out.iterdir()) and not _holds(out, metrics):
        raise ValueError(f"--out {format_path(str(out))} holds something else: accepted is a new or an empty folder")
    return out


def _holds(place: Path, metrics: Mapping[str, Any]) -> bool:
    """Whether the result of this very measurement is there already."""
    try:
        return bool(read_json(place / "metrics.json") == json.loads(json.dumps(metrics)))
    except (ValueError, OSError):
        return False


def _point_at(
    config: Config, info: DatasetInfo, name: str | None, options: Mapping[str, Any] | None, folder: str | None
) -> bool:
    """Make a run's config name the data it is measured on; returns whether they are not its own."""
    data = config.data
    own = (name or data.name) == data.name
    where = None if name or folder else data.options.get("path")
    if where is not None and not os.path.exists(os.path.expanduser(where)):
        raise ValueError(
            f"data.path={format_path(where)!r}, the run's own, is not there: --path names where it lies now"
        )
    if not own:
        data.name = str(name)
        data.options.clear()
        data.options.update(options or {})
    if folder is not None:
        if "path" not in data.options:
            raise ValueError(
                f"--path {folder}: {data.name} has no path; accepted is --data image_folder --path {folder}"
            )
        data.options["path"] = folder
        if "test_path" in data.options:
            data.options["test_path"] = None  # the run's own
    if "on_bad_image" in data.options:
        data.options["on_bad_image"] = "skip"  # and a note says so
    if "channels" in data.options:
        data.options["channels"] = info.in_channels
    return name is not None or folder is not None


def _check_shape(config: Config, info: DatasetInfo) -> None:
    """Refuse what cannot fit before anything is fetched."""
    data = config.data
    settings = data_settings(config) | {"classes": list(info.class_names), "test_fraction": None}
    shape, classes = data_shape(data.name, root=data.root, options=data.options, settings=settings)
    fits = (len(shape), shape[0]) == (len(info.input_shape), info.in_channels)
    if not fits or (data.name in registry.names("data_shape") and classes != info.num_classes):
        raise ValueError(
            f"{data.name} does not fit the run: it has {classes} classes of {_kind(shape)}; "
            f"the run was trained on {info.num_classes} of {_kind(info.input_shape)}"
        )


def _check_classes(name: str, found: Sequence[str], trained: Sequence[str]) -> None:
    if tuple(found) == tuple(trained):
        return
    known, here = set(trained), set(found)
    more, fewer = [one for one in found if one not in known], [one for one in trained if one not in here]
    problems = [f"{_few(more)}, which the run has not"] if more else []
    problems += [f"not {_few(fewer)}, which it was trained on"] if fewer else []
    raise ValueError(f"{name} does not fit the run: it has {' and '.join(problems) or 'the classes in another order'}")


def _few(names: Sequence[str]) -> str:
    """Names in a sentence, the first ten of them."""
    return ", ".join(map(make_printable, names[:10])) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _kind(shape: tuple[int, ...]) -> str:
    return f"{'images' if len(shape) == 3 else 'signals'} with {shape[0]} channel(s)"
