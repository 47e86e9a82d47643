"""What a task is, and what its generator gets and gives."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    name: str
    score: str  # how answers are scored: the names are in datasets/README.md
    max_new_tokens: int  # 0: nothing is generated
    make: Callable  # Job -> list of Sample
    material: str = (
        ""  # what it is made from: "text", "squad", "hotpotqa", "longbench", or "" for nothing
    )
    uses_chat: bool = False  # the prompt is a user's turn if the model has a chat template
    first_line: bool = False  # only the first line of the answer that is not empty is scored
    exact: bool = True  # every prompt has exactly context - max_new_tokens tokens, else at most


@dataclass(frozen=True)
class Text:
    """The material of tasks that want running prose."""

    characters: str
    source: str  # how the dataset names it
    sha256: str
    parts: tuple = ()  # (title, offset in characters), ascending

    def place(self, offset):
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
    model: object  # ModelFolder
    context: int  # tokens of prompt and answer together
    samples: int
    seed: int
    material: object = None  # Text, questions.Questions or longbench.Rows: has source and sha256

    @property
    def chat(self):
        return self.task.uses_chat and self.model.template is not None

    @property
    def prompt_tokens(self):
        return self.context - self.task.max_new_tokens

    @property
    def scored_tokens(self):
        """Perplexity counts the last quarter of a window, at most 1,024 tokens."""
        return min(self.context // 4, 1024) if self.task.score == "ppl" else 0


@dataclass(frozen=True)
class Sample:
    ids: list
    references: list = field(default_factory=list)
    depth: float = math.nan  # of the needle: share of the haystack before it
    origin: str = ""  # where in the material the sample comes from
