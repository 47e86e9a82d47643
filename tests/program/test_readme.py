"""What README promises: its example method compiles against the headers, and its files exist."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_example_method_compiles(tmp_path):
    (code,) = re.findall(r"```c\n(.*?)```", README, re.S)
    source = tmp_path / "alike.c"
    source.write_text("extern const struct sw_method sw_method_alike;\n" + code)
    flags = ["-std=c17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT}"]
    result = subprocess.run(["cc", *flags, source], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_named_files_exist():
    names = re.findall(
        r"(?:configs|core|datasets|plots|tests|results)/[\w./-]+\.(?:yaml|py|md|c|png)\b", README
    )
    assert names
    made_by_user = {"results/quickstart"}
    missing = [n for n in names if n not in made_by_user and not (ROOT / n).exists()]
    assert not missing
