"""The figures of README.md and docs/results.md are those of the reports in results/reference, and
what the pages say in words is what these reports say."""

import importlib.util
import math
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("figures", ROOT / "docs/figures.py")
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """A copy of the reports, to change."""
    for file in (*figures.REPORTS.glob("*.md"), *figures.REPORTS.glob("*.csv")):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(figures, "REPORTS", tmp_path)
    figures.report.cache_clear()
    yield tmp_path
    figures.report.cache_clear()


def change(file, row, old, new):
    """In the first row of a report's last table that has it."""
    head, found, tail = file.read_text().rpartition(row)
    assert found and old in tail, f"{file.name} has no {row!r} with {old!r}"
    file.write_text(head + found + tail.replace(old, new, 1))


def test_pages_quote_the_reports():
    assert list(figures.stale()) == [], "run `make figures`"


def test_pages_mark_every_block_once():
    text = "".join((ROOT / page).read_text() for page in figures.PAGES)
    assert sorted(name for _, name, _ in figures.BLOCK.findall(text)) == sorted(figures.BLOCKS)


@pytest.mark.parametrize("page", [page for page in figures.PAGES if "hops" not in page])
def test_no_figure_is_typed_by_hand(page):
    """Beside the blocks: no number with two decimals, none with a unit of a result. The page on the
    trained model has its settings in figures."""
    text = figures.BLOCK.sub("", (ROOT / page).read_text())
    text = re.sub(r"95 % interval|arXiv \d{4}\.\d+|Ubuntu \d+\.\d+|\]\([^)]*\)", "", text)
    assert re.findall(r"\d\.\d\d+|\d ?×|\d [mµ]s\b|\d %|\[[−+]\d.*?\]", text) == []


@pytest.mark.parametrize(
    "name, row, old, new, page",
    [
        ("quickstart", "| sketchwalk softmax |     0.4 |", "38.33", "38.34", "README.md"),
        ("quickstart", "| sketchwalk softmax |     0.2 |", "0.385", "0.384", "docs/results.md"),
        ("compare-walk", "## smollm2", "31.95 [", "31.94 [", "docs/results.md"),
        ("compare-walk-qwen", "| dense  ", "54.30 [", "54.31 [", "docs/results.md"),
        ("compare-model", "| random block_size=32                   |     0.1 |", "47.22", "47.23",
         "docs/results.md"),
    ],
)  # fmt: skip
def test_a_report_that_changed_makes_its_page_stale(reports, name, row, old, new, page):
    change(reports / f"{name}.md", row, old, new)
    assert list(figures.stale()) == [page]


@pytest.mark.parametrize(
    "name, row, old, new, said",
    [
        ("quickstart", "| sketchwalk arxiv   |     0.2 |", "43.83", "42.00", "random blocks'"),
        ("compare-walk", "| sketchwalk arxiv signed=false   |     0.4 |", "36.85", "33.99",
         "worse than random"),
        ("compare-walk", "| sketchwalk icml signed=false    |     0.4 |", "32.63", "33.90",
         "best of the three"),
        ("compare-walk", "| sketchwalk softmax signed=false |     0.4 |", "[+0.0048", "[-0.0048",
         "costs perplexity"),
        ("compare-walk-qwen", "| reuse kascade                 |     0.1 |", "-0.0166", "+0.0166",
         "What helps here"),
        ("compare-walk-qwen", "| reuse last_anchor             |     0.2 |", "+0.0038", "+0.0246",
         r"\*\*without\*\* a hop"),
        ("compare-model", "| sketchwalk block_size=32 variant=icml  |     0.2 |", "[-0.0089",
         "[+0.0001", "neither gains nor loses"),
    ],
)  # fmt: skip
def test_a_sentence_that_no_longer_holds_is_not_written(reports, name, row, old, new, said):
    change(reports / f"{name}.md", row, old, new)
    with pytest.raises(figures.Missing, match=f"no longer say: .*{said}"):
        figures.stale()


def test_the_layers_are_read_from_their_own_file(reports):
    file = reports / "compare-walk-qwen-layers.csv"
    row = next(
        row for row in file.read_text().splitlines() if row.startswith("xattention,,4096,0.2,3,")
    )
    file.write_text(file.read_text().replace(row, "xattention,,4096,0.2,3,0.0"))
    assert list(figures.stale()) == ["docs/results.md"]


def test_a_row_that_is_gone_is_named(reports):
    file = reports / "compare-walk.md"
    file.write_text(re.sub(r"^\| onehop icml .*\n", "", file.read_text(), flags=re.M))
    with pytest.raises(figures.Missing, match=r"compare-walk.md: no .* of onehop icml at 0.2"):
        figures.stale()


def test_version_0_1_called_the_softmax_form_arxiv(reports):
    """Its figures must never stand in the row of the printed algorithm."""
    section = "smollm2-135m-instruct (task), prefill, 2048 tokens"
    old = figures.report("compare-model")
    assert old.old and old.figure(section, "sketchwalk softmax", "0.2", "ppl_book ppl") == "38.67"
    with pytest.raises(figures.Missing):
        old.figure(section, "sketchwalk arxiv", "0.2", "ppl_book ppl")


def test_perplexities_of_the_front_table_are_those_of_its_samples():
    """exp of the mean loss of the windows, from what `swbench show` printed of the same run."""
    text = (figures.REPORTS / "quickstart-samples.txt").read_text()
    text = text[text.index("ppl_book,") :]
    report, seen = figures.Report("quickstart"), 0
    for rows, keys in re.findall(r"^sample .*\n((?: +\d.*\n)+)\n((?:\w+: .*\n)+)", text, re.M):
        columns = list(zip(*(row.rstrip("* \n").split()[1:] for row in rows.splitlines())))
        for losses, key in zip(columns, keys.splitlines(), strict=True):
            label, _, density = key.split(": ")[1].partition(" at ")
            losses = list(map(float, losses))
            ppl = report.number(figures.PROSE, report._name(label), density, figures.PPL)
            expected = math.exp(sum(losses) / len(losses))
            # Both are rounded: losses to five digits, perplexity to two decimals.
            assert ppl == pytest.approx(expected, abs=0.0051 + 6e-5 * expected), key
            seen += 1
    assert seen == len([key for key in report.rows if key[0] == figures.PROSE])
