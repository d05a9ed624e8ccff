"""Compare fine-tuning with training from scratch on few photographs.

    python benchmarks/finetune_transfer.py CIFAR OUT [--rounds 6]

CIFAR is CIFAR-10 as an image folder, with train and test. The script creates two folders in OUT that share no image and
no class: `many` has the images of all classes but cat and dog; `few` has 150 training images of cats and 150 of dogs,
drawn with a fixed seed, and all 2,000 of their test images. A network is trained on `many`. On `few`, the same recipe
starts from its weights or from random ones, with `--rounds` seeds each, in one sweep, whose report gives the verdict.
"""

import argparse
import csv
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

from figures import read_processor_time, record

COMMAND = Path(sys.executable).with_name("cnnbench")
FEW, PHOTOGRAPHS, SEED = ("cat", "dog"), 150, 0
ALONE = ["trainer.threads=1", "data.workers=1"]


def build_folders(cifar: Path, out: Path) -> None:
    """Link the images of CIFAR into `many` and `few`."""
    for source in sorted(cifar.glob("*/*")):
        split, name = source.parent.name, source.name
        files = sorted(source.iterdir())
        if name in FEW and split == "train":
            files = random.Random(f"{SEED} {name}").sample(files, PHOTOGRAPHS)
        folder = out / ("few" if name in FEW else "many") / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            os.link(file, folder / file.name)


def run(*arguments: str, cwd: Path) -> tuple[str, float]:
    """The last line of a command's output, and its processor time."""
    print("$ cnnbench", *arguments, flush=True)
    before = read_processor_time(resource.RUSAGE_CHILDREN)
    done = subprocess.run([COMMAND, *arguments], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1], read_processor_time(resource.RUSAGE_CHILDREN) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=6, help="seeds of each way")
    parser.add_argument("overrides", nargs="*", help="of both ways")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    if not (out / "few").exists():
        build_folders(arguments.cifar, out)
    if not (out / "source").exists():
        given = ["experiment=cifar10_fast", "model.width=0.5", "trainer.epochs=3", "data=image_folder"]
        given += [f"data.path={out / 'many'}", "data.check=off", f"hydra.run.dir={out / 'source'}"]
        _, seconds = run("train", *given, *ALONE, cwd=out)
        record("fine-tuning: the source", [seconds], "s of a processor")
    given = ["experiment=finetune_photographs", f"data.path={out / 'few'}", "model.weights=null,source"]
    sweep, seconds = run(
        "train", "-m", *given, f"sweep.seeds={arguments.rounds}", "sweep.jobs=1", *ALONE, *arguments.overrides, cwd=out
    )
    record("fine-tuning: the sweep", [seconds], "s of a processor")
    with (out / sweep / "results.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    for group in dict.fromkeys(row["group"] for row in rows):
        accuracies = [100 * float(row["test/accuracy"]) for row in rows if row["group"] == group]
        record(f"fine-tuning: {group}", accuracies, "%")
    report = (out / sweep / "report.md").read_text(encoding="utf-8")
    print(report[report.find("## Comparison") :].split("\n## ")[0])


if __name__ == "__main__":
    main()
