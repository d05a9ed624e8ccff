"""`cnnbench evaluate`."""

import os
import sys
from pathlib import Path

from cnnbench.cli import compose
from cnnbench.cli.run_folders import find_folder
from cnnbench.metrics import text_of
from cnnbench.storage.text import format_output_path, make_printable


def evaluate(
    run: Path,
    *,
    split: str,
    data: str | None,
    path: str | None,
    root: str | None,
    device: str | None,
    batch_size: int | None,
    out: Path | None = None,
) -> None:
    """Measure a run on a split and print the metrics and the folder they were written to."""
    from cnnbench.experiment.evaluate import evaluate_run

    run = find_folder(run, run=True)
    path, root = (os.path.expanduser(text) if text else text for text in (path, root))
    options = compose.single([f"data={data}"]).data.options if data else None
    folder, metrics = evaluate_run(
        run,
        split=split,
        data=data,
        options=options,
        folder=path,
        root=root,
        device=device,
        batch_size=batch_size,
        out=out,
    )
    del metrics["images_sha256"]
    for note in metrics.pop("notes"):
        print(f"warning: {make_printable(note)}", file=sys.stderr)
    for name, value in metrics.items():
        print(f"{name:<10} {text_of(name, value) if isinstance(value, float) else make_printable(str(value))}")
    print(format_output_path(folder))
