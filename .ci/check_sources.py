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

# Functions that are longer for a reason. The number is what they have: a function that became
# shorter is to lower its number or to leave the list, and none may grow.
LONGER: dict[str, tuple[int, str]] = {}


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


def too_long(path, lines):
    for name, start, length, kernel in functions(lines):
        most = KERNEL_LINES if kernel else HOST_LINES
        allowed = LONGER.get(f"{path}:{name}", (most,))[0]
        if length > allowed or (allowed > most and length < allowed):
            yield f"{path}:{start}: {name} has {length} lines, expected {allowed}"


def main():
    known = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    findings = []
    for path in map(Path, sys.argv[1:] or known.splitlines()):
        named = path.suffix in PROSE or path.name in PROSE_NAMES
        if not named or str(path).startswith(WRITTEN) or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        findings += too_wide(path, lines)
        if path.suffix in CODE:
            findings += too_long(path, lines)
            if not lines[0].startswith(("/*", "//")):
                findings.append(f"{path}:1: no comment that says what the file is")
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
