"""What a task is, and what its generator gets and gives."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    name: str
    score: str                      # "ppl" | "all" | "part"
    max_new_tokens: int             # 0: nothing is generated
    make: Callable                  # Job -> list of Sample
    needs_text: bool = False
    uses_chat: bool = False         # the prompt is a user's turn if the model has a chat template


@dataclass(frozen=True)
class Text:
    characters: str
    source: str                     # how the dataset names it
    sha256: str
    parts: tuple = ()               # (title, offset in characters), ascending

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
    model: object                   # ModelFolder
    context: int                    # tokens of prompt and answer together
    samples: int
    seed: int
    text: Text | None = None

    @property
    def chat(self):
        return self.task.uses_chat and self.model.template is not None

    @property
    def scored_tokens(self):
        """Perplexity counts the last quarter of a window, at most 1,024 tokens."""
        return min(self.context // 4, 1024) if self.task.score == "ppl" else 0


@dataclass(frozen=True)
class Sample:
    ids: list
    references: list = field(default_factory=list)
    depth: float = math.nan         # of the needle: share of the haystack before it
    origin: str = ""                # where in the text the sample comes from
