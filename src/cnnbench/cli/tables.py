"""Tables of runs, trials and models, laid out to fit the width of the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cnnbench.metrics import ONE_RUN, find_metric, format_metric, list_metrics
from cnnbench.runs.folder import FINISHED
from cnnbench.storage.text import escape_for_table, format_percent, make_printable

if TYPE_CHECKING:  # analysis imports torch, which the process of a sweep's command does without
    from cnnbench.analysis import Summary, Window

WIDTH_OF_A_FILE = 200  # characters, if standard output is a file or a pipe
LEAST_NEEDED = 2  # columns at least this optional are left out of paragraphs
BEST_TRIALS = 5


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        text_width: the least width of a text column, whose cells may wrap; None for figures, which never wrap.
        optional: on a narrow terminal, columns with the highest number are dropped first; 0 is never dropped.
    """

    name: str
    text_width: int | None = None
    optional: int = 0


def make_console() -> Console:
    """Standard output, as wide as the terminal; a file or a pipe is wide enough for whole tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=WIDTH_OF_A_FILE, highlight=False)


def _build_table(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, lines: bool
) -> tuple[Table, list[str]] | None:
    """Return a table of the columns that fit, and the names of the others; None if not even the fewest fit."""
    for most in sorted({column.optional for column in columns}, reverse=True):
        kept = [place for place, column in enumerate(columns) if column.optional <= most]
        widths, longest = zip(*(_measure(columns[place], [row[place] for row in rows]) for place in kept), strict=True)
        room = console.width - sum(widths) - (3 if lines else 2) * len(kept) - 1  # for the frame and the padding
        if room < 0:
            continue
        growing = sum(full > width for full, width in zip(longest, widths, strict=True))
        style = box.HEAVY_HEAD if lines else box.SIMPLE
        padding = (0, 1) if lines else (0, 1, 0, 0)
        table = Table(title=escape_for_table(title), title_justify="left", box=style, padding=padding)
        for place, width, full in zip(kept, widths, longest, strict=True):
            column, extra = columns[place], min(full - width, room // max(growing, 1))
            justify: Literal["left", "right"] = "right" if column.text_width is None else "left"
            # Rich could distribute the room, but with minimum widths it hands out more than there is.
            table.add_column(escape_for_table(column.name), justify=justify, overflow="fold", width=width + extra)
            room, growing = room - extra, growing - (full > width)
        # Rich wraps a title at the width of its table, which may be narrow.
        table.min_width = min(cell_len(make_printable(title)), console.width)
        for row in rows:
            table.add_row(*(escape_for_table(row[place]) for place in kept))
        return table, [column.name for column in columns if column.optional > most]
    return None


def show_table(
    console: Console,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    lines: bool = True,
    sentences: Sequence[str] = (),
) -> list[str]:
    """Print a table, or a paragraph per row if the table does not fit; return the names of the omitted columns.

    Args:
        lines: draw a frame around the cells.
        sentences: print these instead of the paragraphs.
    """
    built = _build_table(console, title, columns, rows, lines=lines)
    if built is not None:
        console.print(built[0])
        return built[1]
    show_text(console, title)
    for sentence in sentences:
        show_text(console, sentence, indent=2)
    if sentences:
        return []
    for row in rows:
        show_text(console, f"{columns[0].name} {row[0]}" if row[0].isdecimal() else row[0])
        cells = zip(columns[1:], row[1:], strict=True)
        kept = (f"{column.name}: {cell}" for column, cell in cells if cell and column.optional < LEAST_NEEDED)
        show_text(console, ", ".join(kept), indent=2)
    return [column.name for column in columns if column.optional >= LEAST_NEEDED]


def show_text(console: Console, text: str, *, indent: int = 0) -> None:
    """Print text that may contain untrusted names, wrapped to the terminal."""
    console.print(Padding(Text(make_printable(text), overflow="fold"), (0, 0, 0, indent), expand=False))


def _measure(column: Column, cells: Sequence[str]) -> tuple[int, int]:
    """Return the least width that truncates nothing (headings wrap at spaces), and the width that wraps nothing."""
    heading = max(map(cell_len, column.name.split()), default=0)
    longest = max([heading, *(cell_len(make_printable(cell)) for cell in cells)])
    least = longest if column.text_width is None else min(longest, max(column.text_width, heading))
    return least, max(longest, cell_len(column.name))


def describe_run(summary: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """A title for a run, and its results as text, from its `summary.json`."""
    known = {key: value for key, value in summary.items() if value is not None}  # null is an infinite loss

    def show(key: str, form: str = "") -> str:
        return format(known[key], form) if key in known else "unknown"

    values = {
        f"test {metric.title}": metric.format(known[key]) if key in known else "unknown"
        for metric in list_metrics(detail=False)
        if (key := f"test/{metric.name}") in summary  # an autoencoder has no such scores
    }
    if _has_interval(summary):
        ends = (format_metric("accuracy", known[f"test/accuracy_{end}"]) for end in ("low", "high"))
        values["test accuracy"] += f"  [{', '.join(ends)}]"
    if "test/loss" in summary:  # a trial of a search is never tested
        values |= {"test loss": show("test/loss", ".4f"), "test images": show("test_images", ",")}
    values |= {
        "parameters": show("parameters", ","),
        "MACs": show("macs", ","),
        "best epoch": f"{show('best_epoch')} of {show('epochs')}",
        "training": f"{show('train_seconds', '.1f')} s",
        "speed": f"{show('images_per_second', ',.0f')} images/s",
        "device": show("device"),
        "threads": show("threads"),
    }
    title = f"{known.get('model')} on {known.get('data')}, seed {known.get('seed')}"
    if "fold" in known:
        title += f", tested on fold {known['fold']} of {known.get('folds')}"
    return title, values


def _has_interval(summary: Mapping[str, Any]) -> bool:
    return None not in (summary.get("test/accuracy_low"), summary.get("test/accuracy_high"))


def show_run(summary: Mapping[str, Any]) -> None:
    """Print the results of a run."""
    title, values = describe_run(summary)
    console = make_console()
    show_table(console, title, [Column("result", 20), Column("value")], list(values.items()))
    if _has_interval(summary):
        show_text(console, f"[ ] is {ONE_RUN}.")


def show_trials(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], monitor: str, shares: Mapping[str, float]
) -> None:
    """Print the best trials of a search, and how many trials ended in each state.

    Args:
        rows: the rows of `trials.csv`.
        shares: the share of the variance that each key accounts for; empty if it is unknown.
    """
    states = Counter(str(row["state"]) for row in rows)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    columns = [Column(name) for name in ("trial", monitor, "epochs", "seconds", *keys)]
    finished = [row for row in rows if row["state"] == FINISHED]
    best = sorted(finished, key=lambda row: row[monitor], reverse=find_metric(monitor).higher_is_better)[:BEST_TRIALS]
    cells = [
        [
            str(row["trial"]),
            format_metric(monitor, row[monitor]),
            str(row["epochs"]),
            f"{row['seconds'] or 0:.1f}",
            *(f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in keys),
        ]
        for row in best
    ]
    if shares:
        cells.append(["share", "", "", "", *(format_percent(shares[key], 0) if key in shares else "" for key in keys)])
    console = make_console()
    show_table(console, f"The best of {len(rows)} trials ({counts})", columns, cells)
    if shares:
        show_text(console, "share: of the variance between finished trials (fANOVA); unreliable below about 20 trials.")


def show_summary(title: str, batch_size: int, summary: "Summary") -> None:
    """Print a model layer by layer, and its totals. A narrow terminal gets fewer columns."""
    console = make_console()
    columns = [
        Column("layer", 28),
        Column("kind", 9, optional=1),
        Column("output"),
        Column("window", optional=2),
        Column("parameters"),
        Column("MACs"),
        Column("field", optional=1),
        Column("jump", optional=2),
    ]
    rows = [
        [
            layer.name,
            layer.kind,
            format_sizes(layer.output_shape) or "not run",
            _format_window(layer.window),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs:,}" if layer.macs else "",
            format_sizes(layer.receptive_field),
            _format_compactly(layer.jump),
        ]
        for layer in summary.layers
    ]
    omitted = show_table(console, title, columns, rows, lines=False)
    for name, value in _format_totals(summary, batch_size).items():
        show_text(console, f"{name:<20} {value}")
    if omitted:
        show_text(console, f"A wider terminal also shows {', '.join(omitted)}; --json has everything.")
    else:
        note = "window: kernel, stride s, padding p, dilation d, groups g; defaults (1, padding 0) are omitted."
        show_text(console, note)


def show_models(models: Sequence[tuple[str, int, "Summary"]]) -> None:
    """Print the totals of several models, one column each. Models that do not fit side by side follow below.

    Args:
        models: label, batch size and summary of each.
    """
    console = make_console()
    columns = [(label, _format_totals(summary, batch_size)) for label, batch_size, summary in models]
    fitting = max(1, (console.width - 24) // 24)  # columns of 24 characters, after that of the headings
    for first in range(0, len(columns), fitting):
        some = columns[first : first + fitting]
        rows = [[name, *(values[name] for _, values in some)] for name in columns[0][1]]
        heads = [Column("total", 15), *(Column(label) for label, _ in some)]
        show_table(console, "Comparison", heads, rows, lines=False)


def _format_totals(summary: "Summary", batch_size: int) -> dict[str, str]:
    field, sides = summary.receptive_field, summary.input_shape[1:]
    frozen = summary.frozen_parameters
    trained = {
        "  trained": f"{summary.parameters - frozen:,}",
        "  frozen": f"{frozen:,} ({format_percent(frozen / summary.parameters, 1)})",
    }
    share = format_percent(max(f / n for f, n in zip(field, sides, strict=True)), 0)
    return {
        "parameters": f"{summary.parameters:,}",
        **(trained if frozen else {}),
        "  in dense layers": f"{summary.dense_parameters:,} ({format_percent(summary.dense_share, 1)})",
        "weights": _format_megabytes(summary.weight_bytes),
        "MACs, one image": f"{summary.macs:,}",
        "FLOPs, one image": f"{summary.flops:,}",
        "activations": f"{_format_megabytes(batch_size * summary.activation_bytes)} (batch {batch_size})",
        "depth": f"{summary.depth} layers with weights",
        "receptive field": f"{format_sizes(field)} of {format_sizes(sides)} ({share})",
    }


def format_sizes(sizes: Sequence[float]) -> str:
    """Format sizes along several axes as `3×28×28`."""
    return "×".join(f"{size:g}" for size in sizes)


def _format_compactly(sizes: Sequence[float]) -> str:
    return format_sizes(sizes[:1] if len(set(sizes)) == 1 else sizes)


def _format_window(window: "Window | None") -> str:
    """Return a short form: `3 s2 p1 g32` is a 3×3 window with stride 2, padding 1 and 32 groups."""
    if window is None:
        return ""
    options = [("s", window.stride, 1), ("p", window.padding, 0), ("d", window.dilation, 1)]
    named = [f"{letter}{_format_compactly(sizes)}" for letter, sizes, usual in options if set(sizes) != {usual}]
    groups = [f"g{window.groups}"] if window.groups > 1 else []
    return " ".join([_format_compactly(window.kernel), *named, *groups])


def _format_megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
