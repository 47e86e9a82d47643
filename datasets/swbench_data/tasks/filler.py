"""Fitting a haystack so that a prompt has exactly the tokens asked for.

A haystack is made of whole units (lines, sentences, words, documents) and a begun last one, the
tail, that makes up the rest. Everything is judged by tokenising the whole prompt: the tokens of its
parts need not add up.
"""

from swbench_data.cli import InputError

WINDOW = 16  # how far, in tokens, a tail's own length may be off inside the prompt


class TooShort(InputError):
    """The context cannot hold the task. needed: tokens that this sample's prompt and answer take at
    least."""

    def __init__(self, job, needed):
        # Another sample or context draws other words, which may take some more tokens.
        least = -(-(needed + needed // 8 + 16) // 32) * 32
        super().__init__(
            f"context {job.context} is too short for {job.task.name}, expected at least {least} "
            f"with this model's tokenizer"
        )
        self.needed = needed


def fit(job, prompt, following, least=0):
    """Number of whole units, and the ids, with which prompt(n_units, tail) has job.prompt_tokens
    tokens.

    following(n_units, more): the text of up to `more` further units; its beginnings are the tails.
    least: units that the task cannot do without.
    """
    target = job.prompt_tokens
    shortest = len(prompt(least, ""))
    if shortest > target:
        raise TooShort(job, shortest + job.task.max_new_tokens)
    n_units = most_units(lambda n: len(prompt(n, "")), target, least)
    # Should the last gap be one that no tail fills, a unit less and a longer tail will do; or a
    # stop after the tail, where one letter is several tokens.
    for stop in ("", ".", "..."):
        for fewer in range(min(n_units - least, 2) + 1):
            lacking = target - len(prompt(n_units - fewer, ""))
            off = []  # by how much tails inside the prompt differ from their own lengths
            for tokens, tail in tails(job.model, following(n_units - fewer, fewer + 1), lacking):
                if len(off) >= 3 and not min(off) - 1 <= lacking - tokens <= max(off) + 1:
                    continue  # a long prompt takes a second to tokenise
                ids = prompt(n_units - fewer, tail + stop)
                if len(ids) == target:
                    return n_units - fewer, ids
                off.append(len(ids) - (target - lacking) - tokens)
    raise InputError(
        f"{job.task.name}: no filler gives exactly {target} tokens with this model's tokenizer"
    )


def most_units(count, target, least):
    """The largest n with count(n) ≤ target, for a count that grows with n and has count(least) ≤
    target."""
    low, low_count, high, high_count = least, count(least), None, None
    step = 8
    while high is None:
        n = low + step
        found = count(n)
        if found > target:
            high, high_count = n, found
        elif n - least > 64 * target:
            raise InputError(
                "the tokenizer makes no tokens of the haystack, expected one that knows its letters"
            )
        else:
            step = min((target - found) * step // max(found - low_count, 1) + 1, 8 * target)
            low, low_count = n, found
    halve = False
    while high - low > 1:
        share = (
            (high - low) // 2
            if halve
            else (target - low_count) * (high - low) // (high_count - low_count)
        )
        n = min(max(low + share, low + 1), high - 1)
        found = count(n)
        if found <= target:
            low, low_count = n, found
        else:
            high, high_count = n, found
        halve = not halve and high - low > 4
    return low


def tails(model, text, lacking):
    """(tokens, beginning) of the beginnings of `text` with about `lacking` tokens, the best first.

    One that ends with a word comes before one cut elsewhere, which is for tokenizers that split
    words.
    """
    ends = [end for _, end in model.encode_text(text).offsets]
    first = ends[min(lacking - WINDOW, len(ends)) - 1] if ends and lacking > WINDOW else 0
    last = ends[lacking + WINDOW] if lacking + WINDOW < len(ends) else len(text)
    near = [
        (len(model.encode_text("\n" + text[:end]).ids), text[:end])
        for end in range(first, last + 1)
    ]
    return sorted(near, key=lambda found: (abs(found[0] - lacking), not ends_well(found[1], text)))


def ends_well(tail, text):
    """Whether the cut is at the end of a word or a sentence."""
    following = text[len(tail) : len(tail) + 1] or " "
    return tail[-1:] != " " and not (tail[-1:].isalpha() and following.isalpha())
