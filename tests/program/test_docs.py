"""What README, CONTRIBUTING and docs/ promise: links and anchors lead somewhere, files and commands
that are named exist, and the pages list what the program has, neither more nor less."""

import re
import subprocess
from pathlib import Path

import pytest

from conftest import swbench

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "kernels/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
FENCE = re.compile(r"^```.*?^```", re.S | re.M)


def prose(path):
    """A page without its fenced code."""
    return FENCE.sub("", path.read_text())


def anchors(path):
    """As hosting sites make them: lower case, no punctuation, hyphens for spaces."""
    for title in re.findall(r"^#+ (.*)$", prose(path), re.M):
        yield re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")


def commands(path):
    """Lines of code blocks (fenced shell, or indented by four columns), comments cut off."""
    text = path.read_text()
    fenced = "".join(re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.S | re.M))
    indented = "\n".join(re.findall(r"^    (\S.*)$", prose(path), re.M))
    return [line.split(" #")[0] for line in (fenced + "\n" + indented).splitlines()]


def inline(path):
    return re.findall(r"`([^`\n]+)`", prose(path))


def rows(page, title):
    """Names in the first column of the first table below a heading."""
    text = (ROOT / page).read_text()
    (below,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.S | re.M)
    table = re.search(r"(?:^\|.*\n)+", below, re.M)[0].splitlines()[2:]
    cells = [re.split(r"(?<!\\)\|", line)[1] for line in table]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)[:1]]


def listed(*arguments):
    """First words of the lines of `ls` or `help`."""
    lines = swbench(*arguments, check=0).stdout.splitlines()
    return [line.split()[0] for line in lines[1:] if line.strip()]


def verbs():
    return re.findall(r"^  (\w+)", swbench("help", check=0).stdout, re.M)


# --- every page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_links(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name}: {target}"
        assert not anchor or anchor in anchors(file), f"{name}: {target}"


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_at_most_100_columns(name):
    wide = [
        line
        for line in prose(ROOT / name).splitlines()
        if len(line) > 100 and not line.startswith(("|", "!["))
    ]
    assert not wide


@pytest.mark.parametrize("name", NAMES)
def test_named_files_exist(name):
    folders = "bench|configs|core|docs|examples|harness|kernels|plots|tests"
    text = re.sub(r"\]\([^)]*\)|https?:\S+", "", (ROOT / name).read_text())
    for path in re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]+\.\w+", text):
        if "NAME" not in path:
            assert (ROOT / path).exists(), f"{name}: {path}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name):
    """Verbs and flags of the program, targets of make, Python programs."""
    page = ROOT / name
    known, targets = verbs(), re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for line in commands(page) + inline(page):
        for verb in re.findall(r"(?:^|/)swbench ([a-z]\w*)", line):
            assert verb in known, f"{name}: {line}"
            flags = swbench("help", verb, check=0).stdout if verb != "help" else "--format"
            for flag in re.findall(r"(?<=\s)--[a-z][\w-]*", line.partition("swbench " + verb)[2]):
                assert flag in flags, f"{name}: {line}"
        for target in re.findall(r"(?:^|\s)make ([a-z][\w-]*)", line):
            assert target in targets, f"{name}: {line}"
        for script in re.findall(r"python ([\w/]+\.py)", line):
            assert (ROOT / script).exists(), f"{name}: {line}"


# --- README --------------------------------------------------------------------------------------


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_readme_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if path.name not in text] == []


# --- what the program has ------------------------------------------------------------------------


def test_methods_page_lists_the_methods():
    assert sorted(rows("docs/methods.md", "Methods")) == sorted(listed("ls", "methods"))


def test_measuring_page_lists_the_metrics():
    text = (ROOT / "docs/measuring.md").read_text()
    named = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert sorted(named) == sorted(listed("help", "metrics"))


def test_running_page_lists_the_verbs():
    assert sorted(name.split()[1] for name in rows("docs/running.md", "Verbs")) == sorted(verbs())


def test_running_page_lists_the_exit_codes():
    page = (ROOT / "docs/running.md").read_text()
    (line,) = re.findall(r"^Exit codes: (.*)$", swbench("help", check=0).stdout, re.M)
    codes = re.findall(r"(?:^|, )(\d+)", line)
    assert codes and codes == re.findall(r"^\| (\d+) \|", page, re.M)


def test_running_page_names_every_variable_that_is_read():
    code = subprocess.run(
        ["git", "grep", "-hoE", r'getenv\("SWBENCH_[A-Z]+"', "--", "core", "kernels", "harness"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    page = (ROOT / "docs/running.md").read_text()
    read = set(re.findall(r"SWBENCH_\w+", code))
    assert read and read == set(re.findall(r"^\| `(SWBENCH_\w+)` \|", page, re.M))


def test_configs_are_described():
    page = (ROOT / "docs/running.md").read_text()
    (table,) = re.findall(r"^\| config \| for \|\n(?:\|.*\n)+", page, re.M)
    for path in (ROOT / "configs").iterdir():
        assert path.name in table, path.name
