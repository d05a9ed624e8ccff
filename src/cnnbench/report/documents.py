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

from cnnbench.report.comparing import FIX_SEEDS_FIRST
from cnnbench.report.formatting import format_count
from cnnbench.report.section_tables import tabulate_calibration, tabulate_folds, tabulate_variance
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


def bind_percent(text: str) -> str:
    """Bind each number of a page to its percent sign, so that no line begins with the sign."""
    # Commands are left as they are, because a reader copies them.
    return re.sub(r"(<pre>.*?</pre>)|(?<=\d) %", lambda found: found[1] or "\N{NO-BREAK SPACE}%", text, flags=re.DOTALL)


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
    environment.filters |= {"terms": find_terms, "count": format_count, "bind_percent": bind_percent, **filters}
    return environment.from_string(read_template(template, room)).render(context)


def find_terms(text: str) -> list[tuple[str, str]]:
    """The terms of the glossary that occur in a text, each with its meaning, in alphabetical order."""
    return [(entry["term"], entry["meaning"]) for entry in _read_glossary() if re.search(entry["pattern"], text)]


@cache
def _read_glossary() -> list[dict[str, str]]:
    glossary: list[dict[str, str]] = parse_yaml(read_template("glossary.yaml"))
    return glossary


def render_markdown(study: Study, command: str, made: str) -> str:
    """The text of `report.md`.

    Args:
        command: the command that makes this report.
        made: when it was made, and by which version.
    """
    tables = {
        "groups": tabulate_groups(study),
        "details": tabulate_details(study),
        "folds": tabulate_folds(study),
        "comparisons": tabulate_comparisons(study),
        "networks": tabulate_networks(study),
        "variance": tabulate_variance(study),
        "calibration": tabulate_calibration(study),
    }
    context = {
        **{name: table.adapt_to("text") for name, table in tables.items()},
        "study": study,
        "fix_seeds_first": FIX_SEEDS_FIRST,
        "command": command,
        "made": made,
    }
    return render("report.md.j2", context, {"name": escape_for_markdown})
