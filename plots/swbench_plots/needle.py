"""How well each method finds a needle, by length of the prompt and place in it: one panel a method
and density."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np

from swbench_plots import style
from swbench_plots.results import Answer, Row

FEW_ANSWERS = 20  # below, a context's depths are put into 5 bins, else into 10
WIDTH = 7.2  # of all panels, at least, in inches: what the words take
MOST_LINES, MOST_DENSITIES = 14, 6
MOST_NUMBERS = 7  # contexts up to which the figures are written into the map
PHASES = style.PHASES


def places(rows: list[Row], answers: dict[str, list[Answer]]) -> dict[tuple[str, str], list[Row]]:
    """{(model, phase): the cells whose samples have a depth}"""
    found = defaultdict(list)
    for r in rows:
        if r.metric == "accuracy" and r.layer < 0 and answers.get(r.cell):
            found[r.model, r.phase].append(r)
    return dict(
        sorted(
            found.items(),
            key=lambda item: (
                item[0][0],
                list(PHASES).index(item[0][1]) if item[0][1] in PHASES else len(PHASES),
            ),
        )
    )


def suffix(place: tuple[str, str], of: int) -> str:
    """What tells the files of several places apart."""
    return "" if of == 1 else "-" + re.sub(r"[^\w.-]+", "_", "-".join(place))


def grid(
    rows: list[Row], answers: dict[str, list[Answer]], contexts: list[int], bins: int
) -> np.ndarray:
    """[bins, contexts]: mean score; NaN where no needle lay."""
    total, count = np.zeros((bins, len(contexts))), np.zeros((bins, len(contexts)))
    for r in rows:
        for a in answers[r.cell]:
            at = min(int(a.depth * bins), bins - 1), contexts.index(r.context)
            total[at] += a.score
            count[at] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def draw(run, place: tuple[str, str], rows: list[Row]):
    """The figure of one place: methods downwards, densities across; dense, which has none,
    first."""
    contexts = sorted({r.context for r in rows})
    most = max(
        sum(
            len(run.answers[r.cell])
            for r in rows
            if r.context == c and (run.labels(r), r.density) == key
        )
        for c in contexts
        for key in {(run.labels(r), r.density) for r in rows}
    )
    bins = 5 if most < FEW_ANSWERS else 10
    dense = [r for r in rows if r.method == "dense"]
    sparse = [r for r in rows if r.method != "dense"]
    densities, labels = (
        sorted({r.density for r in sparse}),
        run.styles.sorted({run.labels(r) for r in sparse}),
    )
    left_out = (
        " Not all methods and densities are shown."
        if len(labels) > MOST_LINES or len(densities) > MOST_DENSITIES
        else ""
    )
    panels = [
        [
            (label, d, [r for r in sparse if run.labels(r) == label and r.density == d])
            for d in densities[:MOST_DENSITIES]
        ]
        for label in labels[:MOST_LINES]
    ]
    if dense:
        panels.insert(0, [(run.labels(dense[0]), None, dense)])
    if len(densities) < 2:  # one column would be narrower than its title
        flat = [panel for line in panels for panel in line]
        panels = [flat[i : i + 4] for i in range(0, len(flat), 4)]
    columns = max(len(line) for line in panels)
    tasks = sorted({r.task for r in rows})
    named = ", ".join(tasks) if len(tasks) < 3 else f"{len(tasks)} tasks"
    fig, axes = style.start(
        len(panels),
        columns,
        "Where in the text does each method still find what is asked for?",
        f"{place[0]}, {PHASES.get(place[1], place[1])}; {named}. Depth 0 % is the beginning of "
        "the prompt.\n"
        f"Mean score of the prompts whose needle lies there; light grey: none did.{left_out}",
        width=max(WIDTH / columns, 1.9, 0.36 * len(contexts) + 0.9),
        height=1.75,
    )
    mesh = None
    for line, line_axes in zip(panels, axes):
        for panel, ax in zip(line, line_axes):
            if panel[2]:
                mesh = _panel(ax, panel, grid(panel[2], run.answers, contexts, bins), contexts)
            else:
                ax.remove()  # not run at this density
        for ax in line_axes[len(line) :]:
            ax.remove()
    bar = fig.colorbar(mesh, ax=list(fig.axes), pad=0.02, aspect=30, shrink=0.6)
    bar.set_label("score (higher is better)", fontsize=8.5)
    bar.outline.set_visible(False)
    return fig


def _panel(ax, panel, scores: np.ndarray, contexts: list[int]):
    label, density, _ = panel
    bins = len(scores)
    mesh = ax.pcolormesh(
        np.arange(len(contexts) + 1),
        np.linspace(0, 100, bins + 1),
        np.ma.masked_invalid(scores),
        cmap="cividis",
        vmin=0,
        vmax=100,
        edgecolors="white",
        linewidth=0.8,
    )
    ax.set_facecolor(style.RULE)
    ax.set_ylim(100, 0)
    ax.set_yticks([0, 50, 100])
    ax.set_xticks(
        np.arange(len(contexts)) + 0.5,
        [f"{c / 1024:g}K" if c % 1024 == 0 else f"{c:,}" for c in contexts],
        rotation=90 if len(contexts) > 6 else 0,
    )
    ax.tick_params(length=0, labelsize=8)
    ax.grid(False)
    ax.set_title(
        label
        if density is None
        else f"{label}, {100 * density:g} %"
        if density
        else f"{label}, native",
        fontsize=8.5,
    )
    subplot = ax.get_subplotspec()
    if subplot.is_first_col():
        ax.set_ylabel("depth (%)", fontsize=8.5)
    if subplot.is_last_row():
        ax.set_xlabel("prompt (tokens)", fontsize=8.5)
    if len(contexts) <= MOST_NUMBERS:
        for (row, column), score in np.ndenumerate(scores):
            if not np.isnan(score):
                ax.text(
                    column + 0.5,
                    100 * (row + 0.5) / bins,
                    f"{score:.0f}",
                    ha="center",
                    va="center",
                    fontsize=6 if bins > 5 else 7,
                    color="white" if score < 55 else style.INK,
                )
    return mesh
