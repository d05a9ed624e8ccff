"""Tables on the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnbench.cli.layout import Column, output, show_table, show_text
from cnnbench.metrics import shown_metrics, text_of
from cnnbench.runs.folder import FINISHED
from cnnbench.storage.text import format_percent

if TYPE_CHECKING:  # it brings torch, which a sweep's own process does without
    from cnnbench.analysis import Summary, Window

BEST_SHOWN = 5


def show_run(summary: Mapping[str, Any]) -> None:
    """Print what a run came to."""
    known = {key: value for key, value in summary.items() if value is not None}  # a loss that is not finite is null
    title = f"{known.get('model')} on {known.get('data')}, seed {known.get('seed')}"
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
    show_table(output(), title, [Column("result", 20), Column("value")], list(values.items()))


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
    columns = [Column(name) for name in ("trial", monitor, "epochs", "seconds", *keys)]
    cells = []
    finished = [row for row in rows if row["state"] == FINISHED]
    for row in sorted(finished, key=lambda row: row[monitor], reverse=maximize)[:BEST_SHOWN]:
        values = [f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in keys]
        cells.append(
            [str(row["trial"]), text_of(monitor, row[monitor]), str(row["epochs"]), f"{row['seconds'] or 0:.1f}"]
        )
        cells[-1] += values
    if shares:
        cells.append(["share", "", "", "", *(format_percent(shares[key], 0) if key in shares else "" for key in keys)])
    console = output()
    show_table(console, f"The best of {len(rows)} trials ({counted})", columns, cells)
    if shares:
        show_text(console, "share: of the variance between finished trials (fANOVA); unsure below some 20 of them.")


def show_summary(title: str, batch_size: int, described: "Summary") -> None:
    """Print a model layer by layer and its totals; a narrow terminal gets fewer columns."""
    console = output()
    columns = [
        Column("layer", 28),
        Column("kind", 9, spare=1),
        Column("output"),
        Column("window", spare=2),
        Column("parameters"),
        Column("MACs"),
        Column("field", spare=1),
        Column("jump", spare=2),
    ]
    rows = [
        [
            layer.name,
            layer.kind,
            times(layer.output_shape) or "not run",
            _window(layer.window),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs:,}" if layer.macs else "",
            times(layer.receptive_field),
            _compact(layer.jump),
        ]
        for layer in described.layers
    ]
    left_out = show_table(console, title, columns, rows, lines=False)
    for name, value in totals(described, batch_size).items():
        show_text(console, f"{name:<20} {value}")
    if left_out:
        show_text(console, f"A wider terminal also shows {', '.join(left_out)}; --json has everything.")
    else:
        note = "window: kernel, stride s, padding p, dilation d, groups g; what is 1, or padding 0, is left out."
        show_text(console, note)


def show_models(models: Sequence[tuple[str, int, "Summary"]]) -> None:
    """Print the totals of several models, a column each; those that do not fit side by side follow below.

    Args:
        models: label, batch size and summary of each.
    """
    console = output()
    columns = [(label, totals(summary, batch_size)) for label, batch_size, summary in models]
    fitting = max(1, (console.width - 24) // 24)
    for first in range(0, len(columns), fitting):
        some = columns[first : first + fitting]
        rows = [[name, *(values[name] for _, values in some)] for name in columns[0][1]]
        heads = [Column("total", 15), *(Column(label) for label, _ in some)]
        show_table(console, "Comparison", heads, rows, lines=False)


def totals(described: "Summary", batch_size: int) -> dict[str, str]:
    """A model's totals by name, ready to print."""
    share = format_percent(
        max(f / n for f, n in zip(described.receptive_field, described.input_shape[1:], strict=True)), 0
    )
    return {
        "parameters": f"{described.parameters:,}",
        "  in dense layers": f"{described.dense_parameters:,} ({format_percent(described.dense_share, 1)})",
        "weights": _megabytes(described.weight_bytes),
        "MACs, one image": f"{described.macs:,}",
        "FLOPs, one image": f"{described.flops:,}",
        "activations": f"{_megabytes(batch_size * described.activation_bytes)} (batch {batch_size})",
        "depth": f"{described.depth} layers with weights",
        "receptive field": f"{times(described.receptive_field)} of {times(described.input_shape[1:])} ({share})",
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
