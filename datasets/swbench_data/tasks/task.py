"""What a task is, and what its generator gets and gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from swbench_data import cli
from swbench_data.model_folder import ModelFolder


@dataclass(frozen=True)
class Material:
    """What tasks are made from, and where prepare.py finds it. Tasks of one option share it."""

    option: str  # of prepare.py: --OPTION names the user's own
    about: str  # what the option names, for --help
    read: Callable[[Path | None], object]  # gives what has a source and a sha256; see Job.material
    # The published file, below datasets/external; "" where read() finds one by itself.
    file: str = ""
    in_folder: bool = False  # the option names the folder of several files, not the file

    def place(self, named: Path | None) -> Path | None:
        """The file to read: the user's, or where the published one belongs."""
        if named is None:
            return cli.EXTERNAL / self.file if self.file else None
        return named / Path(self.file).name if self.in_folder else named


@dataclass(frozen=True)
class Task:
    name: str
    score: str  # how answers are scored: the names are in datasets/README.md
    max_new_tokens: int  # 0: nothing is generated
    make: Callable[[Job], list[Sample]]
    material: Material | None = None  # None: it is made from nothing
    uses_chat: bool = False  # the prompt is a user's turn if the model has a chat template
    first_line: bool = False  # only the first line of the answer that is not empty is scored
    exact: bool = True  # every prompt has exactly context - max_new_tokens tokens, else at most


@dataclass(frozen=True)
class Text:
    """The material of tasks that want running prose."""

    characters: str
    source: str  # how the dataset names it
    sha256: str
    parts: tuple[tuple[str, int], ...] = ()  # (title, offset in characters), ascending

    def place(self, offset: int) -> str:
        """'title+offset' of a character, counted from where its part begins."""
        title, start = self.source, 0
        for name, begin in self.parts:
            if begin <= offset:
                title, start = name, begin
        return f"{title}+{offset - start}"


@dataclass(frozen=True)
class Job:
    """One dataset to make."""

    task: Task
    model: ModelFolder
    context: int  # tokens of prompt and answer together
    samples: int
    seed: int
    material: object = None  # Text, questions.Questions or longbench.Rows: has source and sha256

    @property
    def chat(self) -> bool:
        return self.task.uses_chat and self.model.template is not None

    @property
    def prompt_tokens(self) -> int:
        return self.context - self.task.max_new_tokens

    @property
    def scored_tokens(self) -> int:
        """Perplexity counts the last quarter of a window, at most 1,024 tokens."""
        return min(self.context // 4, 1024) if self.task.score == "ppl" else 0


@dataclass(frozen=True)
class Sample:
    ids: list[int]
    references: list[str] = field(default_factory=list)
    depth: float = math.nan  # of the needle: share of the haystack before it
    origin: str = ""  # where in the material the sample comes from
    # Tokens [first, last) of the statements that the answer follows from, in the order in which
    # they do; [] where the task does not say.
    hops: list[tuple[int, int]] = field(default_factory=list)
