"""Fills the reference pages with what the program declares; mkdocs calls it as a hook.

A page asks for a part of the reference by a comment: `<!-- keys: trainer -->`, `<!-- parts: models -->`,
`<!-- metrics -->`, `<!-- commands -->`, `<!-- api -->`. No list is kept by hand, so none can be out of date.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import typer

import cnnbench
from cnnbench.cli.app import app
from cnnbench.cli.choices import list_choices
from cnnbench.cli.reference import find_rows, format_markdown_table
from cnnbench.metrics import list_metrics

MARKER = re.compile(r"<!-- (\w+)(?:: ([\w.]+))? -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each marker of a page by the tables or texts that it asks for."""
    return MARKER.sub(lambda found: GENERATORS[found[1]](found[2] or ""), markdown)


def make_keys(section: str) -> str:
    """Return a table of the keys of a section; without one, of those that stand alone, such as `seed`."""
    return format_markdown_table(row for row in find_rows(section) if ("." in row.key) == bool(section))


def make_parts(kind: str) -> str:
    """Return a table of the names of one kind, each with its line of `cnnbench list`."""
    lines = [f"| `{name}` | {description} |".replace("{", "&#123;") for name, description in list_choices(kind)]
    return "\n".join(["| name | what it is |", "| --- | --- |", *lines])


def make_metrics(_: str) -> str:
    """Return a table of the registered metrics."""
    rows = (
        f"| `{metric.name}` | {metric.title} | {'higher' if metric.higher_is_better else 'lower'} is better |"
        for metric in list_metrics()
    )
    return "\n".join(["| name | title | |", "| --- | --- | --- |", *rows])


def make_commands(_: str) -> str:
    """Return the help of every command."""
    program: Any = typer.main.get_command(app)
    sections = []
    for name, command in program.commands.items():
        context = command.context_class(command, info_name=f"cnnbench {name}", terminal_width=100)
        sections.append(f"## cnnbench {name}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(sections)


def make_api(_: str) -> str:
    """Return the functions and classes of the Python API, with their docstrings."""
    parts = {name: getattr(cnnbench, name) for name in cnnbench.__all__}
    ordered = sorted(parts, key=lambda name: (inspect.isclass(parts[name]), name))  # functions first
    return "\n\n".join(text for name in ordered for text in _describe(f"cnnbench.{name}", parts[name], "##"))


def _describe(name: str, part: Any, heading: str) -> Iterator[str]:
    is_error = inspect.isclass(part) and issubclass(part, Exception)
    text = name if is_error else _format_signature(name, part)
    yield f"{heading} {name}\n\n```text\n{text}\n\n{inspect.getdoc(part)}\n```"
    if not inspect.isclass(part):
        return
    for member, value in vars(part).items():
        if member.startswith("_") or not (inspect.isfunction(value) or isinstance(value, property)):
            continue
        if isinstance(value, property):
            yield f"### {part.__name__}.{member}\n\n```text\n{inspect.getdoc(value)}\n```"
        else:
            yield from _describe(f"{part.__name__}.{member}", value, "###")


def _format_signature(name: str, part: Any) -> str:
    signature = inspect.signature(part)
    kept = [one for one in signature.parameters.values() if one.name != "self"]
    text = str(signature.replace(parameters=kept)).removesuffix(" -> None")
    text = re.sub(r": '([^']*)'", r": \1", text)  # annotations that are text
    shown = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)  # types without their modules
    return textwrap.fill(f"{name}{shown}", 100, subsequent_indent="    ")


GENERATORS = {
    "keys": make_keys,
    "parts": make_parts,
    "metrics": make_metrics,
    "commands": make_commands,
    "api": make_api,
}
