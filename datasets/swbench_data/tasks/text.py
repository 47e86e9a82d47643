"""Running prose, the material of tasks that hide needles in it or measure its perplexity."""

import json
from pathlib import Path

from swbench_data import cli, texts
from swbench_data.cli import InputError
from swbench_data.tasks.task import Material, Text


def read(path: Path | None) -> Text:
    """The user's text, or the Austen novels."""
    parts = ()
    source = path.name if path else "austen.txt"
    if path is None:
        path = texts.austen()
        facts = json.loads(path.with_suffix(".json").read_text())
        parts = tuple((novel["title"], novel["offset"]) for novel in facts["novels"])
    data = path.read_bytes()
    try:
        return Text(data.decode("utf-8"), source, cli.sha256_bytes(data), parts)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8, expected a UTF-8 text"
        ) from None


TEXT = Material("text", "UTF-8 text (default: the Austen novels)", read)
