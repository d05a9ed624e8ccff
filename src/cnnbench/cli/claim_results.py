"""Print a verdict, the list of claims, or the verdicts of a class."""

from collections.abc import Sequence
from pathlib import Path

from cnnbench.claims.cost import estimate_minutes, measure_rate
from cnnbench.claims.records import (
    TABLE,
    VERDICT,
    ContrastRecord,
    VerdictRecord,
    format_table,
    keep_latest,
    read_verdicts,
)
from cnnbench.claims.statement import Claim, Scale, choose_claims
from cnnbench.claims.wording import Wording, list_obstacles
from cnnbench.cli.choices import find_config_dir
from cnnbench.cli.claim_plans import Place, find_work
from cnnbench.cli.streams import show_warnings
from cnnbench.cli.tables import Column, make_console, show_table, show_text
from cnnbench.runs.folder import refuse_other_content
from cnnbench.storage.atomic import write_text
from cnnbench.storage.text import format_output_path, format_path, join_some

CLASS_PAGE, CLASS_TABLE, CLASS_FOLDER = "class.html", "class.csv", Path("class-report")
MOST_NAMED, MOST_ROWS = 6, 60  # folders in an error, rows on the terminal


def show_verdict(record: VerdictRecord, wording: Wording) -> None:
    """Print a claim, its contrasts and its verdict."""
    wording = wording.adapt_to(record)
    console, texts = make_console(), wording.texts
    names = texts["page"]["columns"]
    columns = [
        Column(names["contrast"], 24),
        Column(names["effect"]),
        Column(names["rule"]),
        Column("p", optional=1),
        Column("n"),
        Column(names["verdict"], 12),
    ]
    rows = [_list_cells(contrast, wording) for contrast in record.contrasts]
    show_table(console, f"{record.id}: {wording.choose(record.statement)}", columns, rows)
    verdict = wording.name_verdict(record.verdict)
    said = texts["terminal"]["says"].format(id=record.id, verdict=verdict, data=record.data, scale=record.scale)
    if record.prediction:
        predicted = texts["terminal"]["prediction"].format(answer=wording.name_answer(record.prediction))
        said += f" {predicted} {texts['page']['held'][record.held]}"
    show_text(console, said)
    for text in [*list_obstacles(record, wording), *record.problems]:
        show_text(console, text, indent=2)


def _list_cells(contrast: ContrastRecord, wording: Wording) -> list[str]:
    return [
        f"{wording.name_measure(contrast)}: {wording.name_sides(contrast)}",
        wording.format_effect(contrast),
        wording.describe_rule(contrast),
        wording.format_p(contrast),
        str(contrast.n),
        wording.name_verdict(contrast.verdict),
    ]


def show_claims(folder: Path, scale: Scale, wording: Wording) -> None:
    """Print every claim with its cost and its last verdict, from the folder where claims are run."""
    latest: dict[str, VerdictRecord] = {}
    problems: list[str] = []
    for _, record in read_verdicts(folder, problems):
        keep_latest(latest, record.id, record)
    rate = measure_rate(folder)
    rows = []
    for claim in choose_claims(find_config_dir() / "claim", ["all"]):
        last = latest.get(claim.id)
        verdict = "" if last is None else f"{wording.name_verdict(last.verdict)} ({last.data}, {last.scale})"
        rows.append([claim.id, wording.choose(claim.statement), _find_minutes(claim, scale, rate, wording), verdict])
    texts = wording.texts
    columns = [
        Column(texts["claim"], 4),
        Column(texts["statement"], 30),
        Column(texts["minutes"]),
        Column(texts["last_verdict"], 12),
    ]
    show_table(make_console(), texts["terminal"]["list"].format(scale=scale), columns, rows, lines=False)
    show_warnings(problems)


def _find_minutes(claim: Claim, scale: Scale, rate: float | None, wording: Wording) -> str:
    """The minutes of a claim; `?` where they cannot be known."""
    if not claim.needs_training:
        return "0"
    work = None if rate is None else find_work(claim, Place(claim.data, scale))
    return "?" if rate is None or work is None else wording.format_number(round(estimate_minutes(work, rate), 1))


def report_class(folders: Sequence[Path], out: Path | None, wording: Wording) -> None:
    """Print predictions and verdicts below some folders, such as one a student, and write a page and tables.

    Raises:
        ValueError: none of the folders holds a verdict, or `out` holds something else.
    """
    from cnnbench.claims.classroom import format_class, gather_class, render_class

    place = out or CLASS_FOLDER
    refuse_other_content(place, CLASS_TABLE)
    problems: list[str] = []
    verdicts: dict[Path, VerdictRecord] = {}
    for folder in folders:
        complaints: list[str] = []
        found = read_verdicts(folder, complaints)
        if not found and not complaints:
            what = f"holds no {VERDICT}; `cnnbench claim run ID` makes one" if folder.is_dir() else "is not a folder"
            complaints.append(f"{format_path(folder)} {what}")
        problems += complaints
        verdicts.update({path.resolve(): record for path, record in found})  # named folders may contain each other
    if not verdicts:
        raise ValueError(join_some(problems, MOST_NAMED, "; "))
    classroom = gather_class([*verdicts.items()], problems)
    show_warnings(problems)
    texts = wording.texts["terminal"]
    held = {True: wording.texts["yes"], False: wording.texts["no"], None: ""}
    rows = []
    for student, records in classroom.students.items():
        for study, record in records.items():
            predicted = wording.name_answer(record.prediction) if record.prediction else ""
            rows.append([student, *study, predicted, wording.name_verdict(record.verdict), held[record.held]])
    words = [texts["folder"], *(wording.texts[word] for word in ("claim", "data", "scale"))]
    words += [texts[word] for word in ("predicted", "verdict", "held")]
    columns = [Column(word, 4 if number else 8) for number, word in enumerate(words)]
    console = make_console()
    show_table(console, texts["class"], columns, rows[:MOST_ROWS], lines=False)
    if len(rows) > MOST_ROWS:
        show_text(console, texts["more"].format(count=len(rows) - MOST_ROWS, file=CLASS_TABLE))
    place.mkdir(parents=True, exist_ok=True)
    students = [(student, record) for student, records in classroom.students.items() for record in records.values()]
    write_text(place / TABLE, format_table(students))
    write_text(place / CLASS_PAGE, render_class(classroom, wording))
    write_text(place / CLASS_TABLE, format_class(classroom))
    print(format_output_path(place / CLASS_PAGE))
