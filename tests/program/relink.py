"""The program with some of its sources replaced: each is compiled as ninja compiles it, and linked
ahead of the libraries, so that nothing else is built."""

import pathlib
import shlex
import shutil
import subprocess

import pytest

from conftest import PROGRAM

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(PROGRAM).resolve().parents[1]


def commands():
    """How ninja makes the program: compiler calls and the link."""
    if shutil.which("ninja") is None or not (BUILD / "build.ninja").exists():
        pytest.skip(f"{BUILD} was not made by ninja")
    return subprocess.run(
        ["ninja", "-C", str(BUILD), "-t", "commands", "bin/swbench"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def compile_as(source, file, folder, *flags):
    """The object of `file`, compiled with the flags of the repository's `source`."""
    (line,) = [line for line in commands() if line.endswith(f" -c {ROOT / source}")]
    compiler = shlex.split(line)
    output = str(folder / pathlib.Path(file).with_suffix(".o").name)
    command = [*compiler[: compiler.index("-MD")], *flags, "-o", output, "-c", str(file)]
    subprocess.run(command, cwd=BUILD, check=True)
    return output


def link(objects, folder):
    """The program, with these objects in place of those of the same names."""
    command = shlex.split(commands()[-1].removeprefix(": && ").removesuffix(" && :"))
    at = command.index("-o")
    command[at + 1] = str(folder / "swbench")
    command[at:at] = objects
    subprocess.run(command, cwd=BUILD, check=True)
    return folder / "swbench"
