"""The page of a claim, and the index of all claims with a verdict."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

import cnnbench
from cnnbench.claims.evidence import append_unit, draw_evidence, list_blocks, save_evidence
from cnnbench.claims.records import ContrastRecord, VerdictRecord
from cnnbench.claims.statement import Claim
from cnnbench.claims.verdict import VERDICTS
from cnnbench.claims.wording import Wording, list_obstacles, scale_value
from cnnbench.report.documents import read_template, render
from cnnbench.report.formatting import make_legible
from cnnbench.report.svg import to_svg
from cnnbench.storage.atomic import write_text

PAGE, INDEX, PICTURE = "claim.html", "index.html", "evidence.png"
COLOURS = {"supported": "better", "refuted": "worse", "inconclusive": "plain"}  # classes of the stylesheet
RUN = re.compile(r"\.\./runs/[\w.-]{1,80}")  # a link to anything else is not made
MOST_RUNS, MOST_TABLES, MOST_COLUMNS, MOST_CONTRASTS = 60, 20, 60, 60
MOST_EFFECTS = 3  # of a claim in the index


def write_claim_page(folder: Path, record: VerdictRecord, wording: Wording) -> None:
    """Write the page and the picture of a claim beside its `verdict.json`."""
    wording = wording.adapt_to(record)
    save_evidence(folder / PICTURE, record, wording)
    write_text(folder / PAGE, render_claim(record, wording))


def render_claim(record: VerdictRecord, wording: Wording) -> str:
    """The HTML of a claim's page."""
    texts = wording.texts["page"]
    runs = [run for run in record.runs if RUN.fullmatch(run)]
    drawn, total = sum(len(block.contrasts) for block in list_blocks(record)), len(record.contrasts)
    more = texts["runs_more"].format(count=wording.format_number(len(runs) - MOST_RUNS), folder="../runs")
    body = {
        "record": record,
        "verdict": wording.name_verdict(record.verdict),
        "colour": COLOURS[record.verdict],
        "answer": wording.name_answer(record.prediction),
        "pictures": _draw_pictures(record, wording),
        "cut": texts["cut"].format(shown=drawn, total=total) if drawn < total else "",
        "tables": _tabulate_values(record, wording),
        "contrasts": [_describe_contrast(one, wording) for one in record.contrasts[:MOST_CONTRASTS]],
        "reasons": list(dict.fromkeys(_explain_rule(one, wording) for one in record.contrasts[:MOST_CONTRASTS])),
        "obstacles": list_obstacles(record, wording),
        "nuance": make_legible(wording.choose(record.nuance), 2000),
        "equal": make_legible(wording.choose(record.equal), 2000),
        "groups": _list_overrides(record, wording),
        "versions": ", ".join(
            f"{make_legible(name, 40)} {make_legible(version, 40)}"
            for name, version in list({"cnnbench": record.version, **record.versions}.items())[:12]
        ),
        "time": format_time(record.created),
        "runs": runs[:MOST_RUNS],
        "runs_more": more if len(runs) > MOST_RUNS else "",
    }
    statement = wording.choose(record.statement)
    seeds = texts["seeds"].format(n=record.seeds) if record.seeds else texts["no_seeds"]
    shown = {"id": record.id, "data": record.data, "scale": record.scale, "seeds": seeds}
    sections = ["evidence", "rule", *(["decide"] if body["obstacles"] else []), "nuance", "equal", "repeat"]
    links = [("../../index.html", texts["index"]), *((f"#{name}", texts[name]) for name in sections)]
    title = texts["title"].format(id=record.id, verdict=body["verdict"])
    header = {"title": title, "heading": statement, "lead": texts["lead"].format(**shown), "links": links}
    return render_frame(wording, "claim.html.j2", body, question=wording.choose(record.question), **header)


def render_frame(
    wording: Wording,
    template: str,
    body: Mapping[str, Any],
    *,
    title: str,
    lead: str,
    links: Sequence[tuple[str, str]],
    heading: str = "",
    question: str = "",
) -> str:
    """A page with its header and footer around a body."""
    filters = {"legible": make_legible}
    inner = render(template, {"texts": wording.texts, **body}, filters, html=True)
    context = {
        "language": wording.language,
        "texts": wording.texts,
        "style": Markup(read_template("report.css")),
        "title": make_legible(title, 200),
        # A line must not end within a name such as LeNet-5.
        "heading": re.sub(r"(?<=\w)-(?=\d)", "\N{NON-BREAKING HYPHEN}", make_legible(heading or title, 500)),
        "lead": make_legible(lead, 300),
        "question": make_legible(question, 1000),
        "links": links,
        "body": Markup(inner),  # what is in it has been escaped
        "made": wording.texts["made"].format(version=cnnbench.__version__),
    }
    return render("claims.html.j2", context, filters, html=True)


def _draw_pictures(record: VerdictRecord, wording: Wording) -> list[tuple[str, Markup, str]]:
    """The evidence for a wide and for a narrow page, each with its caption; the stylesheet shows one of them."""
    texts = wording.texts["page"]
    pictures = []
    for kind, caption in (("wide", "caption"), ("narrow", "caption_narrow")):
        figure, tips = draw_evidence(record, wording, narrow=kind == "narrow")
        effects = [f"{wording.name_sides(one)}: {wording.format_effect(one)}" for one in record.contrasts[:8]]
        label = make_legible(". ".join([texts["evidence"], *effects]), 1000)
        # The XML writer has escaped the text in it.
        pictures.append((kind, Markup(to_svg(figure, f"evidence-{kind}", label, tips)), texts[caption]))
    return pictures


def _describe_contrast(contrast: ContrastRecord, wording: Wording) -> dict[str, str]:
    return {
        "measure": wording.name_measure(contrast),
        "sides": wording.name_sides(contrast),
        "effect": wording.format_effect(contrast),
        "unit": wording.name_unit(contrast),
        "rule": wording.describe_rule(contrast),
        "p": wording.format_p(contrast),
        "n": wording.texts["page"]["counted"] if contrast.is_exact else str(contrast.n),
        "verdict": wording.name_verdict(contrast.verdict),
        "colour": COLOURS[contrast.verdict],
    }


def _explain_rule(contrast: ContrastRecord, wording: Wording) -> tuple[str, str]:
    """A rule, and why its threshold has this size; several contrasts may have the same."""
    rule = f"{wording.name_measure(contrast)}, {wording.describe_rule(contrast)}"
    return rule, make_legible(wording.choose(contrast.reason), 1000)


def _tabulate_values(
    record: VerdictRecord, wording: Wording
) -> list[tuple[str, list[int], list[tuple[str, list[str]]]]]:
    """For each measure its unit, the seeds, and the figures of each group."""
    tables = []
    for block in list_blocks(record)[:MOST_TABLES]:
        values: dict[str, Mapping[int, float | None]] = {}
        for contrast in block.contrasts:
            values |= contrast.values
        seeds = sorted({seed for own in values.values() for seed in own})[:MOST_COLUMNS]
        unit = wording.name_unit(block.first, alone=True)
        rows = []
        for group, own in values.items():
            found = [own.get(seed) for seed in seeds]
            cells = ["–" if one is None else wording.format_number(scale_value(block.first, one)) for one in found]
            rows.append((wording.name(group), cells))
        name = wording.name_measure(block.first)
        tables.append((append_unit(name, unit), seeds, rows))
    return tables


def _list_overrides(record: VerdictRecord, wording: Wording) -> list[tuple[str, str]]:
    """The overrides of each group, without those that all share."""
    groups = list(record.groups.items())
    shared = set(groups[0][1]).intersection(*(own for _, own in groups)) if len(groups) > 1 else set()
    return [
        (wording.name(group), make_legible(" ".join(one for one in own if one not in shared), 500))
        for group, own in groups[:MOST_CONTRASTS]
    ]


def write_index(
    folder: Path,
    verdicts: Sequence[tuple[Path, VerdictRecord]],
    claims: Sequence[Claim],
    wording: Wording,
    problems: Sequence[str] = (),
) -> None:
    """Write the index of the claims below a folder.

    Args:
        verdicts: each with its file.
        claims: all of them; those without a verdict are listed as open.
        problems: what could not be read.
    """
    texts = wording.texts["index"]
    records = sorted(verdicts, key=lambda pair: (pair[1].id, pair[1].data, pair[1].scale))
    found: Counter[str] = Counter(record.verdict for _, record in records)
    counts = {name: wording.format_number(found[name]) for name in VERDICTS}
    decided = [record.held for _, record in records if record.held is not None]
    known = {record.id for _, record in records}
    body = {
        "predictions": texts["predictions"].format(held=sum(decided), decided=len(decided)) if decided else "",
        "verdicts": [_describe_verdict(folder, path, record, wording) for path, record in records],
        "open": [(claim.id, wording.choose(claim.statement)) for claim in claims if claim.id not in known],
        "problems": problems[:20],
    }
    links = [(f"#{name}", texts[name]) for name in ("verdicts", "problems", "open") if body[name]]
    lead = texts["lead"].format(claims=wording.count(len(records), texts["count"]), **counts)
    page = render_frame(wording, "claim_index.html.j2", body, title=texts["title"], lead=lead, links=links)
    write_text(folder / INDEX, page)


def _describe_verdict(folder: Path, path: Path, record: VerdictRecord, wording: Wording) -> dict[str, Any]:
    wording, texts = wording.adapt_to(record), wording.texts["index"]
    page = path.with_name(PAGE)
    # Somebody may have copied the verdict alone, and a link to it is better than a broken one.
    target = page if page.is_file() else path
    prediction = texts["predicted"].format(answer=wording.name_answer(record.prediction))
    return {
        "name": make_legible(f"{record.id}: {wording.choose(record.statement)}", 400),
        "href": quote(target.relative_to(folder).as_posix()),
        "verdict": wording.name_verdict(record.verdict),
        "colour": COLOURS[record.verdict],
        "effects": [
            f"{wording.name_measure(one)}, {wording.name_sides(one, 40)}: {wording.format_effect(one)} "
            f"{wording.name_unit(one)}"
            for one in record.contrasts[:MOST_EFFECTS]
        ],
        "where": f"{make_legible(record.data, 40)}, {record.scale}",
        "prediction": f"{prediction}, {texts['held'][record.held]}" if record.prediction else "",
    }


def format_time(created: str) -> str:
    """Date and time of a verdict to the minute, in UTC."""
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return make_legible(created, 40)
