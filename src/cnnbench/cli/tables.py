"""Tables on the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from cnnbench.metrics import shown_metrics
from cnnbench.results import FINISHED
from cnnbench.text import for_table, printable

if TYPE_CHECKING:  # it brings torch, which a sweep's own process does without
    from cnnbench.analysis import Summary, Window

BEST_SHOWN = 5


def show_run(summary: Mapping[str, Any]) -> None:
    """Print what a run came to."""
    known = {key: value for key, value in summary.items() if value is not None}  # a loss that is not finite is null
    title = printable(f"{known.get('model')} on {known.get('data')}, seed {known.get('seed')}")
    table = Table(title=for_table(title), title_justify="left", min_width=len(title))
    table.add_column("result")
    table.add_column("value", justify="right")
    values = {
        **{
            f"test {metric.title}": metric.text(known[key]) if key in known else "unknown"
            for metric in shown_metrics()
            if (key := f"test/{metric.name}") in summary  # a network without classes has none
        },
        "test loss": _shown(known, "test/loss", ".4f"),
        "test images": _shown(known, "test_images", ","),
        "parameters": _shown(known, "parameters", ","),
        "MACs": _shown(known, "macs", ","),
        "best epoch": f"{_shown(known, 'best_epoch')} of {_shown(known, 'epochs')}",
        "training": f"{_shown(known, 'train_seconds', '.1f')} s",
        "speed": f"{_shown(known, 'images_per_second', ',.0f')} images/s",
        "device": _shown(known, "device"),
    }
    if "test/loss" not in summary:  # a trial of a search: it has not been tested
        del values["test loss"], values["test images"]
    for name, value in values.items():
        table.add_row(name, for_table(value))
    _console().print(table, highlight=False)


def _shown(known: Mapping[str, Any], key: str, form: str = "") -> str:
    return format(known[key], form) if key in known else "unknown"


def show_trials(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], monitor: str, maximize: bool, shares: Mapping[str, float]
) -> None:
    """Print the best trials of a search, and how many of its trials came to what.

    Args:
        rows: as in `trials.csv`.
        shares: how much of the variance each key accounts for; empty where that is not known.
    """
    states = Counter(str(row["state"]) for row in rows)
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    table = Table(title=f"The best of {len(rows)} trials ({counted})", title_justify="left")
    for name in ("trial", monitor, "epochs", "seconds"):
        table.add_column(name, justify="right")
    for key in keys:
        table.add_column(for_table(key), justify="right", overflow="fold")
    finished = [row for row in rows if row["state"] == FINISHED]
    for row in sorted(finished, key=lambda row: row[monitor], reverse=maximize)[:BEST_SHOWN]:
        values = [f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in keys]
        shown = str(row["trial"]), f"{row[monitor]:.4f}", str(row["epochs"]), f"{row['seconds'] or 0:.1f}"
        table.add_row(*shown, *map(for_table, values))
    if shares:
        table.add_section()
        table.add_row("", "share", "", "", *(f"{shares[key]:.0%}" if key in shares else "" for key in keys))
    console = _console()
    console.print(table, highlight=False)
    if shares:
        console.print("share: of the variance between finished trials (fANOVA); unsure below some 20 of them.")


def show_summary(title: str, batch_size: int, described: "Summary") -> None:
    """Print a model layer by layer and its totals; a narrow terminal gets fewer columns."""
    console = _console()
    wide = console.width >= 100
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("layer", "kind"):
        table.add_column(name, overflow="fold")
    left_out = set() if wide else {"window", "jump"}
    for name in ("output", "window", "parameters", "MACs", "field", "jump"):
        if name not in left_out:
            table.add_column(name, justify="right", no_wrap=True)
    for layer in described.layers:
        cells = {
            "output": times(layer.output_shape) or "not run",
            "window": _window(layer.window),
            "parameters": f"{layer.parameters:,}" if layer.parameters else "",
            "MACs": f"{layer.macs:,}" if layer.macs else "",
            "field": times(layer.receptive_field),
            "jump": _compact(layer.jump),
        }
        table.add_row(
            for_table(layer.name), layer.kind, *(text for name, text in cells.items() if name not in left_out)
        )
    console.print(table)
    for name, value in totals(described, batch_size).items():
        console.print(f"{name:<20} {value}", highlight=False)
    if wide:
        note = "window: kernel, stride s, padding p, dilation d, groups g; what is 1, or padding 0, is left out."
    else:
        note = "A terminal of 100 columns also shows window (kernel, stride …) and jump; --json has everything."
    console.print(note, highlight=False)


def show_models(models: Sequence[tuple[str, int, "Summary"]]) -> None:
    """Print the totals of several models, a column each; those that do not fit side by side follow below.

    Args:
        models: label, batch size and summary of each.
    """
    console = _console()
    columns = [(label, totals(summary, batch_size)) for label, batch_size, summary in models]
    fitting = max(1, (console.width - 24) // 24)
    for first in range(0, len(columns), fitting):
        table = Table("total", title="Comparison", title_justify="left", box=box.SIMPLE)
        for label, _ in columns[first : first + fitting]:
            table.add_column(for_table(label), justify="right", max_width=24, overflow="fold")
        for name in columns[0][1]:
            table.add_row(name, *(values[name] for _, values in columns[first : first + fitting]))
        console.print(table)


def totals(described: "Summary", batch_size: int) -> dict[str, str]:
    """A model's totals by name, ready to print."""
    share = max(f / n for f, n in zip(described.receptive_field, described.input_shape[1:], strict=True))
    return {
        "parameters": f"{described.parameters:,}",
        "  in dense layers": f"{described.dense_parameters:,} ({described.dense_share:.1%})",
        "weights": _megabytes(described.weight_bytes),
        "MACs, one image": f"{described.macs:,}",
        "FLOPs, one image": f"{described.flops:,}",
        "activations": f"{_megabytes(batch_size * described.activation_bytes)} (batch {batch_size})",
        "depth": f"{described.depth} layers with weights",
        "receptive field": f"{times(described.receptive_field)} of {times(described.input_shape[1:])} ({share:.0%})",
    }


def times(sizes: Sequence[float]) -> str:
    """Sizes along several axes."""
    return "×".join(f"{size:g}" for size in sizes)


def _compact(sizes: Sequence[float]) -> str:
    return times(sizes[:1] if len(set(sizes)) == 1 else sizes)


def _window(window: "Window | None") -> str:
    """Such as `3 s2 p1 g32` for a 3×3 convolution of stride 2, padding 1 and 32 groups."""
    if window is None:
        return ""
    options = [("s", window.stride, 1), ("p", window.padding, 0), ("d", window.dilation, 1)]
    named = [f"{letter}{_compact(sizes)}" for letter, sizes, usual in options if set(sizes) != {usual}]
    groups = [f"g{window.groups}"] if window.groups > 1 else []
    return " ".join([_compact(window.kernel), *named, *groups])


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"


def _console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for whole tables where it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
