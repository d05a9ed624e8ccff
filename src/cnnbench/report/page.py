"""`report.html`: a study as one file that needs nothing else, neither the network nor a script to be read."""

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

import cnnbench
from cnnbench.report import page_tables, study_charts
from cnnbench.report.comparing import BETTER, WORSE, Comparison
from cnnbench.report.glossary import explained
from cnnbench.report.pairs import pairs
from cnnbench.report.study import Study
from cnnbench.report.svg import legible
from cnnbench.runs.folder import FINISHED
from cnnbench.storage.atomic import write_text

NAME = "report.html"
TESTED = (BETTER, WORSE)  # verdicts that a test gave
SECTIONS = {
    "findings": "What this says",
    "groups": "Groups",
    "cost": "Cost",
    "differences": "Differences",
    "curves": "Learning curves",
    "heatmaps": "Width and depth",
    "pairs": "Mistakes",
    "runs": "Runs",
    "about": "Environment",
    "words": "Words",
}
WORDS_HERE = "<!-- the words that occur, explained -->"  # no name can be this: they are escaped


def write_page(study: Study, out: Path) -> Path:
    """Write `report.html` into the folder `out` and return its path.

    Args:
        out: an existing folder.
    """
    path = out / NAME
    write_text(path, page(study))
    return path


def page(study: Study) -> str:
    """The page's HTML; its only script is named by hash in its Content-Security-Policy."""
    templates = files("cnnbench.report") / "templates"
    template, style, script = (
        (templates / name).read_text(encoding="utf-8") for name in ("report.html.j2", "report.css", "report.js")
    )
    # Everything in a template is escaped but what is Markup: charts, whose writer escapes, and these two files of ours.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    context = _context(study)
    context |= {
        "sections": [(id, name) for id, name in SECTIONS.items() if context.get(id, True)],
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": Markup(style),
        "version": cnnbench.__version__,
    }
    html = environment.from_string(template).render(context)
    words = "".join(f"<dt>{escape(word)}</dt><dd>{escape(sentence)}</dd>" for word, sentence in explained(html))
    return html.replace(WORDS_HERE, words)


def _context(study: Study) -> dict[str, Any]:
    cost, pareto = study_charts.cost_charts(study)
    curves, curves_note = study_charts.learning_curves(study)
    shown_pairs, unread = pairs(study)
    runs, environments, common = page_tables.runs_table(study)
    groups = page_tables.groups_table(study)
    return {
        "title": _title(study),
        "lead": _lead(study),
        "comparisons": _findings(study),
        "lost": _lost(study),
        "notes": [legible(note, 1500) for note in (*_notes(study), *unread)],
        "groups": groups if groups.rows else None,
        "groups_note": _groups_note(study),
        "cost": legible(pareto, 1500),
        "cost_charts": cost,
        "differences": study_charts.difference_of(study),
        "curves": curves,
        "curves_note": curves_note,
        "heatmaps": study_charts.heatmaps(study),
        "pairs": shown_pairs,
        "pairs_note": _pairs_note(shown_pairs),
        "runs": runs,
        "environments": environments,
        "common": common,
    }


def _title(study: Study) -> str:
    names = list(dict.fromkeys(str(run.config.get("name") or "") for run in study.runs))
    return legible(" and ".join(name for name in names if name), 80) if 0 < len(names) < 4 else "Comparison of runs"


def _lead(study: Study) -> str:
    data = list(dict.fromkeys(str(run.summary["data"]) for run in study.runs if run.summary.get("data")))
    finished = sum(run.state == FINISHED for run in study.runs)
    parts = [
        _count(len(study.runs), "run") + ("" if finished == len(study.runs) else f", {finished} finished"),
        _count(len(study.groups), "group"),
        f"data: {', '.join(data[:4])}" if data else "",
        f"baseline: {study.baseline}" if study.baseline else "",
    ]
    return legible(" · ".join(part for part in parts if part), 400)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _findings(study: Study) -> list[dict[str, Any]]:
    """Verdicts, those that a test gave first; groups of which the same is said stand together."""
    by_words: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in sorted(study.comparisons, key=lambda c: (c.verdict not in TESTED, -abs(c.mean))):
        by_words.setdefault((comparison.b, comparison.words), []).append(comparison)
    return [
        {
            "b": legible(b),
            "words": legible(words, 600),
            "verdict": alike[0].verdict if alike[0].verdict in TESTED else "plain",
            "groups": [(legible(c.a), page_tables.figures_of(c)) for c in alike],
        }
        for (b, words), alike in by_words.items()
    ]


def _lost(study: Study) -> list[dict[str, Any]]:
    return [
        {
            "place": place,
            "name": legible(run.name),
            "state": legible(run.state, 40),
            "message": legible(run.message, 300),
        }
        for place, run in enumerate(study.runs, 1)
        if run.state != FINISHED
    ]


def _notes(study: Study) -> list[str]:
    """The study's notes but those on unfinished runs, which the page names one by one."""
    states = Counter(run.state for run in study.runs if run.state != FINISHED)
    told = tuple(f"{count} of {len(study.runs)} runs " for count in states.values())
    return [note for note in study.notes if not note.startswith(told)]


def _groups_note(study: Study) -> str:
    said = [
        "Parameters and MACs (multiplications and additions for one image) are of the network; field is the receptive "
        "field; rate, images trained on in a second."
    ]
    if study.baseline:
        said.append(f"Differences are from {legible(study.baseline)}; p is corrected by Holm’s method.")
    if study.target is not None:
        metrics = sorted({group.target_metric for group in study.groups if group.target_metric}, reverse=True)
        metric = " (or, without a validation split, ".join(metrics) + ")" * (len(metrics) - 1) or "accuracy"
        said.append(
            f"Target: the first epoch with {metric} ≥ {100 * study.target:.4g} %, median over seeds, "
            "and how many reached it."
        )
    return " ".join(said)


def _pairs_note(shown: Sequence[object]) -> str:
    if not shown:
        return ""
    said = (
        "Confusion is summed over the seeds of a group. Below each image: its class → what it is taken for; where both "
        "are wrong in different ways, by the first · by the second."
    )
    return f"{said} Choose another pair below." if len(shown) > 1 else said
