"""The words of the small model: those of chain_k's sentences, numbers, and the commonest of prose.

A word that the vocabulary lacks is spelled in bytes, so that any text can be encoded.
"""

import collections

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from swbench_data.tasks import chain
from swbench_data.tasks.draws import words

END = "<|endoftext|>"  # begins every text and ends every answer
PROSE_WORDS = 6144  # of running prose


def pieces():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def split(text):
    """The pieces of a text, spelled as byte-level BPE spells them."""
    return [piece for piece, _ in pieces().pre_tokenize_str(text)]


def vocabulary(prose):
    """Every token once, in a fixed order: bytes, names, numbers, words of sentences, prose."""
    tokens = dict.fromkeys(sorted(pre_tokenizers.ByteLevel.alphabet()))
    for word in names() + numbers():
        tokens |= dict.fromkeys(split(word))
    for sentence in sentences():
        tokens |= dict.fromkeys(split(sentence))
    counts = collections.Counter(split(prose))
    for piece, _ in sorted(counts.items(), key=lambda found: (-found[1], found[0]))[:PROSE_WORDS]:
        tokens.setdefault(piece)
    return list(tokens)


def names():
    return [f" {noun}" for noun in words("nouns")]


def numbers():
    return [f" {number}" for number in range(100, 1000)]


def sentences():
    """The task's own wording, with a name and a number in the places of names and numbers."""
    name, number = words("nouns")[0], "100 100"
    where = {"here": name, "there": name, "number": number, "start": name}
    for answer, what in chain.WHAT.items():
        yield chain.QUESTION.format(what=what.format(**where), **where)
        yield chain.PREFIX[answer].format(**where) + f" {name}, {number}."
    yield from (f" {text.format(**where)}" for text in (chain.HOP, chain.VAULT))
    yield from (text.format(**where) for text in (chain.HOP, chain.VAULT))


def tokenizer(prose):
    ids = {token: id for id, token in enumerate(vocabulary(prose))}
    made = Tokenizer(models.BPE(vocab=ids, merges=[], ignore_merges=True))
    made.pre_tokenizer = pieces()
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return made
