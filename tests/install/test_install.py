"""The installed tree, moved away from where it was installed: program, manual, completion, library,
headers, package files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("SWBENCH_BUILD", ROOT / "build/release"))
HEADERS = (
    "core/backend",
    "core/budget",
    "core/method",
    "core/model/shape",
    "core/operation_args",
    "core/param",
    "core/scratch",
    "core/selection",
    "core/sparse",
    "core/status",
    "kernels/open",
)
LISTS = ("core/operations",)  # included for its rows, by a header that says what a row becomes


def call(*argv, check=0, **options) -> subprocess.CompletedProcess:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **options)
    assert check is None or done.returncode == check, (
        f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> Path:
    """An installation under another prefix than the configured one, moved afterwards."""
    if not (BUILD / "install").is_dir():
        pytest.skip(f"{BUILD} was built with sanitizers, which are not installed")
    folder = tmp_path_factory.mktemp("install")
    call("cmake", "--install", BUILD, "--prefix", folder / "first")
    return (folder / "first").rename(folder / "moved")


@pytest.fixture(scope="module")
def library(prefix) -> Path:
    return next(p.parent for p in prefix.rglob("libswbench.so"))


@pytest.fixture(scope="module")
def example(prefix, tmp_path_factory) -> Path:
    """examples/select, built against the installed package."""
    build = tmp_path_factory.mktemp("example")
    call(
        "cmake",
        "-S",
        ROOT / "examples/select",
        "-B",
        build,
        f"-DCMAKE_PREFIX_PATH={prefix}",
        "-DCMAKE_C_FLAGS=-Wall -Wextra -Wpedantic -Werror",
    )
    call("cmake", "--build", build)
    return build / "select"


def swbench(prefix, *argv, check=0):
    return call(prefix / "bin/swbench", *argv, check=check)


def test_program(prefix, tmp_path):
    version = re.search(r"project\(swbench VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert swbench(prefix, "--version").stdout.startswith(f"swbench {version} (")
    assert (
        swbench(prefix, "ls", "methods").stdout
        == call(BUILD / "bin/swbench", "ls", "methods").stdout
    )
    config = tmp_path / "small.yaml"
    config.write_text(
        "version: 1\nname: small\nworkloads: [{kind: synthetic, shape: smollm2-135m, layers: 2, "
        "context: 512}]\n"
        "axes: {density: [0.5]}\nmethods: [sink_window]\ndense_layers: 0\nmeasure: [recovery]\n"
    )
    done = subprocess.run(
        [prefix / "bin/swbench", "run", config, "-q"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results/small/cells").glob("*.h5"))) == 1


def test_documents_say_no_paths(prefix):
    for path in prefix.rglob("*"):
        if (
            path.is_file()
            and path.suffix in (".cmake", ".pc", ".1", ".h")
            and ".so" not in path.name
        ):
            text = path.read_text()
            assert (
                str(BUILD) not in text and str(ROOT) not in text and str(prefix.parent) not in text
            ), path


# --- the CUDA module ------------------------------------------------------------------------------


def test_cuda_module_is_found_from_the_program(prefix, library):
    """A file of that name which is no module proves where it is looked for."""
    module = library / "libswbench_cuda.so"
    kept = module.read_bytes() if module.exists() else None
    module.write_text("not a module\n")
    try:
        assert f"{prefix}/bin/../" in swbench(prefix, "ls", "backends").stdout
    finally:
        module.write_bytes(kept) if kept else module.unlink()


def test_cuda_module_is_found_from_the_library(example, library):
    module = library / "libswbench_cuda.so"
    kept = module.read_bytes() if module.exists() else None
    module.write_text("not a module\n")
    try:
        error = call(example, "cuda", check=1).stderr
        assert str(module) in error and "cannot load" in error
    finally:
        module.write_bytes(kept) if kept else module.unlink()


# --- documents ------------------------------------------------------------------------------------


def words_of_the_tables(prefix) -> set[str]:
    """Every verb, flag, method, metric, config key and parameter that help knows."""
    lines = swbench(prefix, "help").stdout.splitlines()
    verbs = {line.split()[0] for line in lines if re.match(r"  [a-z]", line)}
    words = set(verbs) | {
        line.split()[0] for line in swbench(prefix, "help", "metrics").stdout.splitlines()[1:]
    }
    for topic in verbs | {"config", "methods"}:
        text = swbench(prefix, "help", topic).stdout
        words |= {
            line.split()[0]
            for line in text.splitlines()
            if re.match(r"  [a-z-]", line) and "follows" not in line
        }
    words |= {
        line.split(":")[0]
        for line in swbench(prefix, "help", "methods").stdout.splitlines()
        if re.match(r"[a-z_]+:", line)
    }
    assert {"run", "--set", "sketchwalk", "ppl", "density", "block_size", "exponent"} <= words
    return words


def test_manual(prefix):
    page = prefix / "share/man/man1/swbench.1"
    assert not page.read_bytes().startswith(b"\n")
    if shutil.which("mandoc"):
        assert call("mandoc", "-T", "lint", "-W", "style", page).stdout == ""
        text = call("mandoc", "-T", "utf8", page).stdout
    elif shutil.which("man"):
        done = call(
            "man", "--warnings", "-l", page, env=dict(os.environ, MANROFFOPT="", LC_ALL="C.UTF-8")
        )
        assert done.stderr == ""
        text = done.stdout
    else:
        pytest.skip("neither mandoc nor man is here to read the manual page")
    text = re.sub(".\b", "", text)  # bold and underline of terminals
    for word in words_of_the_tables(prefix):
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?!\w)", text), word
    for section in (
        "NAME",
        "SYNOPSIS",
        "VERBS",
        "CONFIGURATION",
        "METHODS",
        "METRICS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "EXAMPLES",
    ):
        assert f"\n{section}\n" in text


def complete(prefix, line: str, cwd: Path) -> list[str]:
    """What bash offers at the end of a line; words are cut as bash cuts them, at blanks and at
    '='."""
    words = [w for w in re.split(r"\s+|(=)", line) if w] + ([""] if line[-1] in " =" else [])
    if line.endswith("="):
        words.pop()  # the '=' itself is what is being completed
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _swbench; printf '
        '"%s\\n" "${COMPREPLY[@]}"'
    )
    done = call(
        "bash",
        "-c",
        script,
        "bash",
        prefix / "share/bash-completion/completions/swbench",
        *words,
        cwd=cwd,
    )
    return sorted(w for w in done.stdout.split("\n") if w)


def test_bash_completion(prefix, tmp_path):
    for name in ("a.yaml", "b.yml", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "a folder").mkdir()
    verbs = complete(prefix, "swbench ", tmp_path)
    assert {"run", "plan", "export", "help", "--version"} <= set(verbs)
    assert complete(prefix, "swbench exp", tmp_path) == ["export"]
    assert complete(prefix, "swbench run ", tmp_path) == ["a folder", "a.yaml", "b.yml"]
    assert complete(prefix, "swbench run --ba", tmp_path) == ["--backend"]
    assert complete(prefix, "swbench run --backend ", tmp_path) == ["auto", "cpu", "cuda"]
    assert complete(prefix, "swbench run a.yaml --backend=c", tmp_path) == ["cpu", "cuda"]
    assert complete(prefix, "swbench export --format=", tmp_path) == ["csv", "jsonl"]
    assert complete(prefix, "swbench run --limit ", tmp_path) == []
    assert complete(prefix, "swbench run --set axes.p", tmp_path) == ["axes.phase="]
    assert complete(prefix, "swbench run --set axes.phase=", tmp_path) == [
        "both",
        "decode",
        "prefill",
    ]
    assert complete(prefix, "swbench run --set axes.phase=d", tmp_path) == ["decode"]
    assert complete(prefix, "swbench report a", tmp_path) == ["a folder"]
    assert complete(prefix, "swbench validate ", tmp_path) == [
        "a folder",
        "a.yaml",
        "b.yml",
        "c.txt",
    ]
    assert complete(prefix, "swbench help sketchw", tmp_path) == ["sketchwalk"]
    assert complete(prefix, "swbench export x --metric pp", tmp_path) == ["ppl"]
    methods = {line.split()[0] for line in swbench(prefix, "ls", "methods").stdout.splitlines()}
    topics = complete(prefix, "swbench help ", tmp_path)
    for topic in topics:
        swbench(prefix, "help", topic)
    assert {"sketchwalk", "dense", "random"} <= set(topics) & methods


def test_every_flag_completes(prefix, tmp_path):
    for verb in [v for v in complete(prefix, "swbench ", tmp_path) if not v.startswith("-")]:
        listed = re.findall(r"^  (-\S+)", swbench(prefix, "help", verb).stdout, re.MULTILINE)
        assert sorted([*listed, "--help"]) == complete(prefix, f"swbench {verb} -", tmp_path)


def test_zsh_completion(prefix):
    script = prefix / "share/zsh/site-functions/_swbench"
    assert script.read_text().startswith("#compdef swbench\n")
    if not shutil.which("zsh"):
        pytest.skip("no zsh here to read its completion")
    call("zsh", "-n", script)


def test_help_refuses_other_formats(prefix):
    assert "'pdf'" in swbench(prefix, "help", "--format", "pdf", check=2).stderr
    assert "topic" in swbench(prefix, "help", "run", "--format", "man", check=2).stderr
    assert (
        swbench(prefix, "help", "run", "--format", "text").stdout
        == swbench(prefix, "help", "run").stdout
    )


# --- library --------------------------------------------------------------------------------------


def test_example_runs_a_method(example):
    found = re.fullmatch(
        r"sketchwalk on cpu: 64 query blocks, density (0\.\d+)\n", call(example).stdout
    )
    assert found and abs(float(found[1]) - 0.2) < 0.002  # half a block of 2080
    assert "expected cpu, cuda or auto" in call(example, "gpu", check=1).stderr


def test_other_versions_are_refused(prefix, tmp_path):
    own = re.search(r"project\(swbench VERSION (\d+\.\d+)", (ROOT / "CMakeLists.txt").read_text())[
        1
    ]
    major, minor = map(int, own.split("."))
    older, newer = f"{major}.{minor - 1}", f"{major}.{minor + 1}"
    for version, found in ((own, 1), (older, 0), (newer, 0), ("1.0", 0)):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.22)\nproject(t LANGUAGES C)\nfind_package(swbench "
            f"{version} REQUIRED)\n"
        )
        done = call(
            "cmake", "-S", folder, "-B", folder / "b", f"-DCMAKE_PREFIX_PATH={prefix}", check=None
        )
        assert (done.returncode == 0) == bool(found), version


def test_pkg_config(prefix, library, tmp_path):
    env = dict(os.environ, PKG_CONFIG_PATH=str(library / "pkgconfig"), LD_LIBRARY_PATH=str(library))
    flags = call("pkg-config", "--cflags", "--libs", "swbench", env=env).stdout.split()
    call("cc", ROOT / "examples/select/main.c", "-o", tmp_path / "select", *flags)
    assert call(tmp_path / "select", env=env).stdout.startswith("sketchwalk on cpu")


@pytest.mark.parametrize("compiler, language", [("cc", "c"), ("c++", "c++")])
def test_headers_stand_alone(prefix, compiler, language):
    headers = prefix / "include/swbench"
    installed = [str(path.relative_to(headers).with_suffix("")) for path in headers.rglob("*.h")]
    assert sorted(installed) == sorted(HEADERS + LISTS)
    for name in HEADERS:
        call(
            compiler,
            "-fsyntax-only",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{prefix}/include/swbench",
            "-x",
            language,
            "-",
            input=f'#include "{name}.h"\n',
        )
