"""Tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnnbench.analysis import Summary
from cnnbench.report.comparison import Comparison, cells


def show_run(summary: Mapping[str, Any]) -> None:
    """Print what a run came to."""
    table = Table(title=f"{summary['model']} on {summary['data']}, seed {summary['seed']}", title_justify="left")
    table.add_column("result")
    table.add_column("value", justify="right")
    classes = (
        {
            "test accuracy": f"{summary['test/accuracy']:.2%}",
            "test F1 macro": f"{summary['test/f1_macro']:.4f}",
        }
        if "test/accuracy" in summary
        else {}
    )
    values = {
        **classes,
        "test loss": f"{summary['test/loss']:.4f}",
        "test images": f"{summary['test_images']:,}",
        "parameters": f"{summary['parameters']:,}",
        "MACs": f"{summary['macs']:,}",
        "best epoch": f"{summary['best_epoch']} of {summary['epochs']}",
        "training": f"{summary['train_seconds']:.1f} s",
        "speed": f"{summary['images_per_second']:,.0f} images/s",
        "device": summary["device"],
    }
    for name, value in values.items():
        table.add_row(name, value)
    _console().print(table, highlight=False)


def show_comparison(compared: Comparison) -> None:
    """Print the table that `comparison.md` holds, and its notes; a narrow terminal gets fewer columns."""
    header, rows = cells(compared)
    console = _console()
    left_out = set() if console.width >= 130 else {"MACs", "field", "F1 macro", "seconds", "course's F1"}
    shown = [number for number, name in enumerate(header) if name not in left_out]
    table = Table(title="Comparison", title_justify="left")
    for number in shown:
        table.add_column(header[number], justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(escape(row[number]) for number in shown))
    console.print(table)
    notes = [*compared.notes, "More columns are in comparison.md."] if left_out else compared.notes
    for note in notes:
        console.print(escape(note), highlight=False)


def show_summary(title: str, described: Summary) -> None:
    """Print a model layer by layer and its totals."""
    table = Table(title=title, title_justify="left")
    for name in ("layer", "kind"):
        table.add_column(name)
    for name in ("output shape", "parameters", "MACs", "receptive field"):
        table.add_column(name, justify="right")
    for layer in described.layers:
        table.add_row(
            layer.name,
            layer.kind,
            " × ".join(map(str, layer.output_shape)),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs:,}" if layer.macs else "",
            " × ".join(map(str, layer.receptive_field)),
        )
    console = _console()
    console.print(table)
    field = " × ".join(map(str, described.receptive_field))
    console.print(
        f"{described.parameters:,} parameters · {described.macs:,} MACs for one image · "
        f"{described.depth} layers with weights · receptive field {field}",
        highlight=False,
    )


def _console() -> Console:
    """Standard output: as wide as the terminal, or wide enough for whole tables where it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
