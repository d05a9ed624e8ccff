"""A study as `report.md`, and what all documents of a report share: templates and a glossary."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from cnnbench.report.calibration import NOTE as CALIBRATION_NOTE
from cnnbench.report.calibration import tabulate_calibration
from cnnbench.report.comparing import FIX_SEEDS_FIRST
from cnnbench.report.folds import tabulate_folds
from cnnbench.report.formatting import format_count
from cnnbench.report.shares import NOTE as VARIANCE_NOTE
from cnnbench.report.shares import tabulate_variance
from cnnbench.report.study import Study
from cnnbench.report.tables import tabulate_comparisons, tabulate_details, tabulate_groups, tabulate_networks
from cnnbench.storage.plain_data import parse_yaml
from cnnbench.storage.text import escape_for_markdown

LANGUAGES = ("en", "pt")  # of the pages that people may ask for in either


def read_template(name: str, room: str = "report") -> str:
    """The text of a file in a room's `templates/`."""
    return (files(f"cnnbench.{room}") / "templates" / name).read_text(encoding="utf-8")


def format_json(content: Any) -> str:
    """JSON that can stand inside a script element: no text in it can end the element."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def hash_for_policy(text: str) -> str:
    """What a Content-Security-Policy names a script or a style by, behind `sha256-`."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(
    template: str,
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]],
    *,
    html: bool = False,
    room: str = "report",
) -> str:
    """Fill a room's template; in HTML, everything is escaped except what is `Markup`."""
    environment = jinja2.Environment(
        autoescape=html, undefined=jinja2.StrictUndefined, trim_blocks=html, keep_trailing_newline=True
    )
    environment.filters |= {"terms": find_terms, "count": format_count, **filters}
    return environment.from_string(read_template(template, room)).render(context)


@cache
def _read_glossary() -> list[dict[str, str]]:
    glossary: list[dict[str, str]] = parse_yaml(read_template("glossary.yaml"))
    return glossary


def find_terms(text: str) -> list[tuple[str, str]]:
    """The terms of the glossary that occur in a text, each with its meaning, in alphabetical order."""
    return [(entry["term"], entry["meaning"]) for entry in _read_glossary() if re.search(entry["pattern"], text)]


def render_markdown(study: Study, command: str, made: str) -> str:
    """The text of `report.md`.

    Args:
        command: the command that makes this report.
        made: when it was made, and by which version.
    """
    context = {
        "study": study,
        "tested": study.groups[0].runs[0].summary if study.groups else {},
        "groups": tabulate_groups(study).adapt_to("text"),
        "details": tabulate_details(study).adapt_to("text"),
        "folds": tabulate_folds(study).adapt_to("text"),
        "comparisons": tabulate_comparisons(study).adapt_to("text"),
        "networks": tabulate_networks(study).adapt_to("text"),
        "variance": tabulate_variance(study).adapt_to("text"),
        "variance_note": VARIANCE_NOTE,
        "calibration": tabulate_calibration(study).adapt_to("text"),
        "calibration_note": CALIBRATION_NOTE,
        "fix_seeds_first": FIX_SEEDS_FIRST,
        "command": command,
        "made": made,
    }
    return render("report.md.j2", context, {"name": escape_for_markdown})
