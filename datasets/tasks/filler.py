"""Filler text, and fitting it so that a prompt has exactly the tokens asked for."""

from cli import InputError

# RULER's noise haystack is this line again and again.
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


def fit(job, target, prompt):
    """Number of whole noise lines, and the ids, with which prompt(n_lines, tail) has `target` tokens.

    The tail is the begun last line that makes up the rest.  Everything is judged by tokenising the
    whole prompt: the tokens of its parts need not add up.
    """
    shortest = len(prompt(0, ""))
    if shortest > target:
        raise InputError(f"context {job.context} is too short for {job.task.name}, expected at least "
                         f"{shortest + job.task.max_new_tokens} with this model's tokenizer")
    line_tokens = len(job.model.encode_text("\n" + NOISE).ids)
    n_lines = (target - shortest) // line_tokens
    while n_lines > 0 and len(prompt(n_lines, "")) > target:
        n_lines -= 1
    while len(prompt(n_lines + 1, "")) <= target:
        n_lines += 1

    # A tail that ends with a word comes first; one cut elsewhere is for tokenizers that split words.
    # Should the last gap be one that no tail fills, a line less and a longer tail will do.
    for fewer in range(min(n_lines, 2) + 1):
        lacking = target - len(prompt(n_lines - fewer, ""))
        for tail in sorted(tails(fewer + 1), key=lambda tail: (
                abs(len(job.model.encode_text("\n" + tail).ids) - lacking), not ends_well(tail))):
            ids = prompt(n_lines - fewer, tail)
            if len(ids) == target:
                return n_lines - fewer, ids
    raise InputError(f"{job.task.name}: no filler gives exactly {target} tokens with this model's tokenizer")


def tails(n_lines):
    """Every beginning of the noise text, of up to n_lines lines."""
    text = noise(n_lines)
    return [text[:end] for end in range(len(text) + 1)]


def ends_well(tail):
    """Whether the cut is at the end of a word or a sentence."""
    following = noise(4)[len(tail)]
    return tail[-1:] != " " and not (tail[-1:].isalpha() and following.isalpha())


def noise(n_lines):
    return " ".join([NOISE] * n_lines)
