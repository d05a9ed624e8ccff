"""Write the results page of the course's claims, and print the README's table, from `cnnbench claim run all`.

    cnnbench claim run all
    python benchmarks/claim_results.py outputs/claims/mnist-quick

Writes `docs/claims.md` and a picture for each claim, and prints the rows of the README.
"""

import argparse
import textwrap
from pathlib import Path

from PIL import Image

from cnnbench.claims.records import VerdictRecord, read_verdicts
from cnnbench.claims.verdict import VERDICTS
from cnnbench.claims.wording import Wording

DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURES = DOCS / "pictures" / "claims"
COLOURS = 48  # enough for lines and text, at a quarter of the size
WORDING = Wording("en")
HEAD = """# The statements of the course, tested

```bash
cnnbench claim run all
```

Each verdict follows a rule that was in the claim's file, `configs/claim/`, before the data were seen. These are quick
runs: {data}, {seeds} seeds or more, few images, few epochs, recorded on {date} with torch {torch} on one core of an
x86-64 CPU. Their networks have often not converged. `--scale full`, the protocol worth citing, was not run. How a
verdict comes about: [Test a statement of the course](how-to/claims.md).

| verdict | claims |
| --- | --- |
{counts}
"""


def describe(record: VerdictRecord) -> str:
    """A section of the page."""
    rows = [
        f"| {WORDING.name_measure(one)}: {WORDING.name_sides(one)} | {WORDING.format_effect(one)} | "
        f"{WORDING.describe_rule(one)} | {WORDING.format_p(one)} | {one.n or ''} | {one.verdict} |"
        for one in record.contrasts
    ]
    obstacles = [f"{text.rstrip('.')}." for one in record.contrasts if (text := WORDING.describe_obstacle(one))]
    texts = [*dict.fromkeys(obstacles), record.nuance.en]
    return "\n".join(
        [
            f"## {record.id}: {record.verdict}",
            "",
            textwrap.fill(record.statement.en, 120),
            "",
            f"![{record.id}: the values of each group by seed, and the effects](pictures/claims/{record.id}.png)",
            "",
            "| effect | value [95 %] | must be | p | n | verdict |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
            *rows,
            "",
            textwrap.fill(" ".join(texts), 120, break_long_words=False, break_on_hyphens=False),
            "",
            f"`cnnbench claim run {record.id}`",
            "",
        ]
    )


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="such as outputs/claims/mnist-quick")
    problems: list[str] = []
    found = sorted(read_verdicts(parser.parse_args().folder, problems, levels=1), key=lambda one: one[1].id)
    if problems or not found:
        parser.error("; ".join(problems) or "no verdict there")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for path, record in found:
        with Image.open(path.with_name("evidence.png")) as picture:
            small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(PICTURES / f"{record.id}.png", optimize=True)
    records = [record for _, record in found]
    named = {verdict: [one.id for one in records if one.verdict == verdict] for verdict in VERDICTS}
    head = HEAD.format(
        data=records[0].data.upper(),
        seeds=min((one.seeds for one in records if one.seeds), default=0),
        date=max(one.created for one in records)[:10],
        torch=records[0].versions.get("torch", "?").partition("+")[0],
        counts="\n".join(f"| {verdict} ({len(ids)}) | {', '.join(ids)} |" for verdict, ids in named.items()),
    )
    (DOCS / "claims.md").write_text("\n".join([head, *map(describe, records)]).rstrip() + "\n", encoding="utf-8")
    for record in records:
        link = f"docs/claims.md#{record.id.lower()}-{record.verdict}"
        print(f"| [{record.id}]({link}) | {record.statement.en} | {record.verdict} |")


if __name__ == "__main__":
    main()
