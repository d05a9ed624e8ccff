"""The predictions and verdicts of the students of a class, as a page and as a table."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cnnbench.claims.page import render_frame
from cnnbench.claims.records import VerdictRecord, keep_latest
from cnnbench.claims.wording import MARKS, Wording
from cnnbench.report.formatting import make_legible
from cnnbench.report.svg import GRID, INK, MUTED, PAPER, SERIES, to_svg, use_page_style
from cnnbench.runs.class_names import shorten_distinctly
from cnnbench.storage.csv_tables import format_csv

# Folders between a student's own and a verdict, from the inside; none of them has to be there.
BETWEEN = (r"C\d\d", r".+-(quick|full)", "claims", "outputs")
MOST_STUDENTS, MOST_STUDIES = 400, 80  # that are shown
KINDS = {"held": SERIES[2], "failed": SERIES[1], "open": MUTED, "none": GRID}
Study = tuple[str, str, str]  # id, data and scale, of which everybody should have the same verdict


@dataclass(frozen=True)
class Classroom:
    """What students found."""

    students: Mapping[str, Mapping[Study, VerdictRecord]]  # by student, each under a unique name, and study
    problems: Sequence[str] = ()  # what could not be read

    @property
    def studies(self) -> list[Study]:
        """All studies that a student ran."""
        return sorted({study for records in self.students.values() for study in records})

    def select(self, study: Study) -> dict[str, VerdictRecord]:
        """The records of a study, by student."""
        return {name: records[study] for name, records in self.students.items() if study in records}

    def find_usual_verdict(self, study: Study) -> str:
        """The verdict that most have."""
        return Counter(record.verdict for record in self.select(study).values()).most_common(1)[0][0]


def gather_class(verdicts: Sequence[tuple[Path, VerdictRecord]], problems: Sequence[str] = ()) -> Classroom:
    """Give each verdict to its student; of several for the same study, the last one counts."""
    folders: dict[Path, dict[Study, VerdictRecord]] = {}
    for path, record in verdicts:
        # The folder of a student holds `outputs/claims/mnist-quick/C01/verdict.json` or less of it.
        folder = path.resolve().parent
        for pattern in BETWEEN:
            if re.fullmatch(pattern, folder.name):
                folder = folder.parent
        keep_latest(folders.setdefault(folder, {}), (record.id, record.data, record.scale), record)
    names = [folder.name or str(folder) for folder in folders]
    if len(set(names)) < len(names):  # then the parts that differ
        common = os.path.commonpath(folders)
        names = [os.path.relpath(folder, common) for folder in folders]
    legible = (make_legible(name, 200) for name in names)
    return Classroom(dict(zip(legible, folders.values(), strict=True)), problems)


def format_class(classroom: Classroom) -> str:
    """`class.csv`: a row for each student and claim."""
    rows = [
        {
            "student": student,
            "claim": record.id,
            "data": record.data,
            "scale": record.scale,
            "prediction": record.prediction,
            "verdict": record.verdict,
            "held": record.held,
            "usual_verdict": classroom.find_usual_verdict(study),
            "created": record.created,
            "version": record.version,
        }
        for study in classroom.studies
        for student, record in classroom.select(study).items()
    ]
    return format_csv(rows)


def render_class(classroom: Classroom, wording: Wording) -> str:
    """The HTML of the class's page."""
    texts = wording.texts["class"]
    studies = classroom.studies[:MOST_STUDIES]
    shown = dict(list(classroom.students.items())[:MOST_STUDENTS])
    usual = {study: classroom.find_usual_verdict(study) for study in studies}
    figure = _draw_class(classroom, studies, wording)
    left_out = len(classroom.students) - len(shown)
    verdicts = wording.texts["verdicts"]
    body = {
        # The XML writer has escaped the text in it.
        "picture": Markup(to_svg(figure, "class", texts["picture"], {})),
        "columns": [
            wording.texts["claim"],
            *(texts[f"predicted_{answer}"] for answer in ("yes", "no", "none")),
            *verdicts.values(),
            texts["held"],
            texts["differ"],
        ],
        "claims": [_describe_study(classroom, study, wording) for study in studies],
        "names": [(study[0], make_legible(" ".join(study[1:]), 40)) for study in studies],
        "students": [
            (make_legible(name, 60), [_describe_cell(own.get(study), usual[study], wording) for study in studies])
            for name, own in shown.items()
        ],
        "more": texts["more"].format(count=wording.format_number(left_out)) if left_out else "",
        "problems": classroom.problems[:20],
    }
    students = wording.count(len(classroom.students), texts["students"])
    lead = texts["lead"].format(students=students, claims=wording.count(len(classroom.studies), texts["claims"]))
    sections = {"picture": "picture", "claims": "by_claim", "students": "by_student"}
    links = [(f"#{name}", texts[title]) for name, title in sections.items()]
    if classroom.problems:
        links.append(("#problems", texts["problems"]))
    return render_frame(wording, "claim_class.html.j2", body, title=texts["title"], lead=lead, links=links)


def _name_study(study: Study) -> str:
    return make_legible(" ".join(study), 60)


def _describe_study(classroom: Classroom, study: Study, wording: Wording) -> dict[str, Any]:
    """A study's row: how many predicted what, what came out, and who has another verdict."""
    found = classroom.select(study)
    texts = wording.texts["class"]
    predicted = Counter(record.prediction for record in found.values())
    came_out = Counter(record.verdict for record in found.values())
    decided = [record.held for record in found.values() if record.held is not None]
    usual = classroom.find_usual_verdict(study)
    others = [
        f"{name}: {wording.name_verdict(record.verdict)}" for name, record in found.items() if record.verdict != usual
    ]
    more = f", {texts['more'].format(count=len(others) - 5)}" if len(others) > 5 else ""
    return {
        "name": _name_study(study),
        "statement": make_legible(wording.choose(next(iter(found.values())).statement), 200),
        "counts": [
            *(predicted[answer] for answer in ("yes", "no", None)),
            *(came_out[verdict] for verdict in wording.texts["verdicts"]),
        ],
        "held": texts["held_of"].format(held=sum(decided), decided=len(decided)) if decided else "–",
        "differ": ", ".join(make_legible(text, 80) for text in others[:5]) + more,
    }


def _describe_cell(record: VerdictRecord | None, usual: str, wording: Wording) -> dict[str, str]:
    if record is None:
        return {"text": "", "colour": "", "detail": ""}
    mark = {True: "✓", False: "✗", None: "?"}[record.held]
    return {
        "text": f"{wording.name_answer(record.prediction)} {mark}" if record.prediction else "–",
        "colour": {True: "held", False: "failed", None: ""}[record.held],
        "detail": wording.name_verdict(record.verdict) if record.verdict != usual else "",
    }


def _name_kind(record: VerdictRecord) -> str:
    """What became of a prediction, as in `KINDS`."""
    return "none" if record.prediction is None else {True: "held", False: "failed", None: "open"}[record.held]


def _draw_class(classroom: Classroom, studies: Sequence[Study], wording: Wording) -> Figure:
    """Draw bars of students by what became of their prediction, the claims that surprised most at the top."""
    texts = wording.texts["class"]
    counts: dict[Study, Counter[str]] = {
        study: Counter(_name_kind(record) for record in classroom.select(study).values()) for study in studies
    }
    ordered = sorted(studies, key=lambda study: (-counts[study]["failed"] / max(1, counts[study].total()), study))
    names = shorten_distinctly([_name_study(study) for study in ordered], 34)
    with use_page_style():
        figure = Figure(figsize=(4.7, 1.2 + 0.36 * len(ordered)))
        axes = figure.subplots()
        left = [0] * len(ordered)
        for kind, colour in KINDS.items():
            widths = [counts[study][kind] for study in ordered]
            label = texts["kinds"][kind]
            axes.barh(
                range(len(ordered)), widths, left=left, height=0.42, color=colour, edgecolor=PAPER, linewidth=0.8,
                hatch={"failed": "////"}.get(kind), label=label,
            )  # fmt: skip
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for place, (study, name) in enumerate(zip(ordered, names, strict=True)):
            verdict = classroom.find_usual_verdict(study)
            text = f"{name}: {wording.name_verdict(verdict)} {MARKS[verdict]}"
            axes.text(0, place - 0.36, text, transform=axes.get_yaxis_transform(), fontsize=7.5, va="bottom", color=INK)
        axes.set_ylim(len(ordered) - 0.5, -0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.format_number(value)))
        axes.set_xlabel(texts["students_axis"])
        figure.legend(loc="outside upper left", ncols=2, columnspacing=1.4)
    return figure
