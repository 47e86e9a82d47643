"""The programs of datasets/, run in this process."""

import signal
import sys
from types import SimpleNamespace

import pytest

from swbench_data import cli
from swbench_data import import_model as import_program
from tiny_models import write_gguf


@pytest.fixture
def run(monkeypatch, capsys):
    """run(program, *arguments) -> code, out, err; a traceback of the program fails the test."""

    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as exit:
                cli.run(program)
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return SimpleNamespace(code=exit.value.code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def refused(run):
    """refused(words, program, *arguments): exit 2 and one line on stderr that holds the words."""

    def call(words, program, *arguments):
        result = run(program, *arguments)
        assert result.code == 2, result.err
        assert result.err.count("\n") == 1 and result.err.startswith(f"{program}: "), result.err
        assert words in result.err
        return result.err

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of an imported tiny model with a tokenizer that splits most words."""
    base = tmp_path_factory.mktemp("tiny")
    source = write_gguf(base / "tiny.gguf")
    argv, sys.argv = sys.argv, ["import_model", str(source), "--out", str(base / "models")]
    try:
        assert import_program.main() == 0
    finally:
        sys.argv = argv
    return base / "models" / "tiny"
