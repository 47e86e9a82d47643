"""How every figure looks: one colour a method (Okabe and Ito's palette, told apart by colour-blind
readers), one marker and line style a variant, words around the data and as little else as
possible."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

PHASES = {
    "prefill": "reading the prompt (prefill)",
    "decode": "generating (decode)",
    "both": "prefill and decode",
}
INK, GREY, RULE = "#222222", "#666666", "#dddddd"

# Okabe–Ito without its yellow, which is lost on white. Methods that are compared most often lie
# furthest apart.
METHOD_COLOURS = {
    "dense": "#000000",
    "sketchwalk": "#D55E00",
    "onehop": "#0072B2",
    "oracle": "#009E73",
    "sink_window": "#E69F00",
    "random": "#8a8a8a",
}
OTHER_COLOURS = ("#56B4E9", "#CC79A7", "#0072B2", "#009E73", "#E69F00", "#D55E00")
METHOD_MARKERS = {
    "sketchwalk": "o",
    "onehop": "s",
    "oracle": "^",
    "sink_window": "D",
    "random": "X",
    "dense": "",
}
OTHER_MARKERS = ("v", "P", "<", ">", "p", "h", "*", "d")
DENSE_LINE = (0, (4, 2))
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))

plt.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "savefig.dpi": 180,
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.labelcolor": INK,
        "axes.edgecolor": GREY,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "lines.linewidth": 1.8,
        "lines.markersize": 6,
        "legend.frameon": False,
        "pdf.fonttype": 42,
    }
)


class Styles:
    """Line properties by label, the same in every figure of a run."""

    def __init__(self, labels):
        others = sorted({m for m in labels.method.values() if m not in METHOD_COLOURS})
        self._by_label = {}
        for label, method in labels.method.items():
            variant = labels.variant[label]
            if method in METHOD_COLOURS:
                colour, marker = METHOD_COLOURS[method], METHOD_MARKERS[method]
            else:
                i = others.index(method)
                colour, marker = (
                    OTHER_COLOURS[i % len(OTHER_COLOURS)],
                    OTHER_MARKERS[i % len(OTHER_MARKERS)],
                )
            self._by_label[label] = {
                "color": colour,
                "marker": marker,
                "linestyle": DENSE_LINE if method == "dense" else LINES[variant % len(LINES)],
                # every second variant has hollow markers, for those who see neither colour nor
                # dashes
                "markerfacecolor": "white" if variant % 2 else colour,
                "markeredgecolor": colour,
                "markeredgewidth": 1.4,
            }
        self._order = {
            label: (
                method not in METHOD_COLOURS,
                list(METHOD_COLOURS).index(method) if method in METHOD_COLOURS else 0,
                label,
            )
            for label, method in labels.method.items()
        }

    def __call__(self, label: str) -> dict:
        return self._by_label[label]

    def sorted(self, labels) -> list[str]:
        return sorted(labels, key=self._order.__getitem__)


def start(rows: int, columns: int, title: str, note: str, width: float = 4.1, height: float = 3.3):
    """A figure with a grid of panels, a sentence on top and how to read it at the foot. Room on the
    right is the legend's."""
    fig, axes = plt.subplots(
        rows, columns, figsize=(width * columns + 2.0, height * rows + 1.0), squeeze=False
    )
    fig.get_layout_engine().set(w_pad=0.1, h_pad=0.1, wspace=0.02, hspace=0.02)
    fig.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
    fig.supxlabel(note, x=0.012, ha="left", fontsize=8.5, color=GREY)
    return fig, axes


def legend(fig: Figure, styles: Styles, labels) -> None:
    """Outside, in an order that does not depend on the data."""
    handles = [plt.Line2D([], [], label=label, **styles(label)) for label in styles.sorted(labels)]
    fig.legend(
        handles=handles,
        loc="outside right center",
        alignment="left",
        handlelength=3.2,
        labelspacing=0.7,
    )


def density_axis(ax, values) -> None:
    """Kept density as per cent, on a log scale, with ticks where there is data."""
    ax.set_xscale("log")
    ticks: list[float] = []
    for v in sorted(values):
        if not ticks or v > 1.25 * ticks[-1]:
            ticks.append(v)
    _ticks(ax.xaxis, ticks, lambda v: f"{100 * v:.2g}" if v < 1 else "100")
    if len(ticks) == 1:
        ax.set_xlim(
            ticks[0] / 1.5, ticks[0] * 1.5
        )  # one density: a column, not a line across the panel
    ax.set_xlabel("attention kept (density, %)")


def context_axis(ax, values) -> None:
    ax.set_xscale("log")
    _ticks(ax.xaxis, sorted(values), lambda v: f"{v / 1024:g}K" if v % 1024 == 0 else f"{v:,.0f}")
    ax.set_xlabel("prompt length (tokens)")


def time_axis(ax) -> None:
    """A log scale in plain numbers, at 1, 2 and 5 of each decade."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())


def _ticks(axis, ticks, text) -> None:
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: text(v)))


def save(fig: Figure, folder: Path, name: str) -> list[Path]:
    paths = []
    for suffix, metadata in (
        (".png", {"Software": None}),
        (".pdf", {"CreationDate": None, "Creator": "swbench", "Producer": None}),
    ):
        path = folder / (name + suffix)
        fig.savefig(path, metadata=metadata)
        paths.append(path)
    plt.close(fig)
    return paths
