"""What no formatter checks: the width of prose, the first line of a file, the length of functions.

    check_sources.py [FILE …]        all files that git knows when none is named

Prints a line a finding and exits with 1 when there is one.
"""

import re
import subprocess
import sys
from pathlib import Path

WIDTH, HOST_LINES, KERNEL_LINES = 100, 60, 120
PROSE = {".c", ".h", ".cu", ".cuh", ".cpp", ".inc", ".py", ".sh", ".md", ".cmake", ".yml", ".yaml"}
PROSE_NAMES = {"CMakeLists.txt", "Makefile", "bootstrap", "run"}
WRITTEN = ("results/reference/", "tests/fuzz/seeds/")  # by programs
CODE = {".c", ".cu", ".cuh", ".cpp"}


def long_functions():
    """{"file:function": lines} of long_functions.txt."""
    rows = Path(__file__).with_name("long_functions.txt").read_text(encoding="utf-8").splitlines()
    words = [row.split(maxsplit=2) for row in rows if not row.startswith("#")]
    return {name: int(lines) for name, lines, _why in words}


def too_wide(path, lines):
    """Markdown's tables cannot be broken, nor can a word as long as a URL."""
    for number, line in enumerate(lines, 1):
        excused = path.suffix == ".md" and line.lstrip().startswith("|")
        longest = max(map(len, line.split()), default=0)
        if len(line) > WIDTH and not excused and longest < WIDTH - 20:
            yield f"{path}:{number}: {len(line)} columns, expected at most {WIDTH}"


def functions(lines):
    """(name, first line, length, kernel) of each definition, as the formatter lays them out: what
    begins in the first column, up to a brace that closes there."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "}" and start is not None:
            head = " ".join(lines[start - 1 : number])
            name = re.search(r"(\w+)\s*\(", re.sub(r"__\w+__\s*(\([^)]*\))?", "", head))
            kernel = "__global__" in head or "__device__" in head
            if name:
                yield name.group(1), start, number - start + 1, kernel
            start = None
        elif line.endswith(";") and not line.startswith((" ", "\t")):
            start = None
        elif re.match(r"[A-Za-z_]", line) and start is None:
            start = number


def too_long(path, lines, known):
    """Functions above the limit, or above what long_functions.txt grants them; and what that list
    grants without need."""
    granted = {name: lines for name, lines in known.items() if name.startswith(f"{path}:")}
    for name, start, length, kernel in functions(lines):
        limit = KERNEL_LINES if kernel else HOST_LINES
        most = granted.pop(f"{path}:{name}", None) or limit
        if length > most:
            yield f"{path}:{start}: {name} has {length} lines, expected at most {most}"
        elif length <= limit < most:
            yield f"{path}:{start}: {name} has {length} lines: take it off long_functions.txt"
    for name in granted:
        yield f"{name} is not there: take it off long_functions.txt"


def main():
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    known, findings = long_functions(), []
    if not sys.argv[1:]:
        gone = {name.split(":")[0] for name in known} - set(files.splitlines())
        findings += [
            f"{name} is not there: take it off long_functions.txt" for name in sorted(gone)
        ]
    for path in map(Path, sys.argv[1:] or files.splitlines()):
        named = path.suffix in PROSE or path.name in PROSE_NAMES
        if not named or str(path).startswith(WRITTEN) or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        findings += too_wide(path, lines)
        if path.suffix in CODE:
            findings += too_long(path, lines, known)
            if not lines[0].startswith(("/*", "//")):
                findings.append(f"{path}:1: no comment that says what the file is")
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
