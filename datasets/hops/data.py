"""Texts of chains, made on the device that trains: statements scattered over prose, then questions.

The same sentences as the task chain_k (swbench_data/tasks/chain.py), by other draws: names and
numbers of a text, where its statements stand, and in which order, come from torch's generator.
"""

from dataclasses import dataclass

import torch

from hops import language
from swbench_data.tasks import chain

HERE, THERE, NUMBER = -1, -2, -3  # what a template leaves open; a number has two tokens
IGNORED = -100  # no target


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor  # [texts, tokens]
    targets: torch.Tensor  # [texts, tokens]: the next token where an answer is, else IGNORED
    # The last token of each question: where it stands, and what each look-up finds, [texts,
    # questions] and [texts, questions, look-ups].
    asked: torch.Tensor
    found: torch.Tensor
    # The last name of each hop's sentence whose chain stands wholly before it: the number's first
    # token, IGNORED elsewhere. [texts, tokens]
    resolved: torch.Tensor
    # By question: hops.
    hops: tuple[int, ...]
    lists: tuple[bool, ...]


class Language:
    """Templates in ids."""

    def __init__(self, tokenizer, device):
        self.tokenizer, self.device = tokenizer, device
        self.end = tokenizer.token_to_id(language.END)
        first = [tokenizer.token_to_id(language.split(n)[0]) for n in language.names()]
        self.names = torch.tensor(first, device=device)
        self.numbers = torch.tensor(
            [tokenizer.token_to_id(language.split(n)[0]) for n in language.numbers()], device=device
        )
        here, there = (name.strip() for name in language.names()[:2])
        number = "100 101"
        self.open = {f" {here}": HERE, f" {there}": THERE}
        where = {"here": here, "there": there, "number": number, "start": here}
        self.hop = self.template(" " + chain.HOP.format(**where))
        self.vault = self.template(" " + chain.VAULT.format(**where))
        self.question = {
            answer: self.template(
                chain.QUESTION.format(what=what.format(**where), **where)
                + chain.PREFIX[answer].format(**where)
            )
            for answer, what in chain.WHAT.items()
        }
        # In training most questions are the answer's beginning alone, so that a text holds many.
        self.brief = {
            answer: self.template("\n" + prefix.format(**where))
            for answer, prefix in chain.PREFIX.items()
        }
        self.comma, self.stop = (tokenizer.encode(mark).ids[0] for mark in ",.")

    def template(self, text):
        """Ids, with HERE and THERE where names were, NUMBER and NUMBER - 1 for a number's two
        tokens."""
        encoded = self.tokenizer.encode(text)
        spelled = {language.split(word)[0]: mark for word, mark in self.open.items()}
        spelled |= {"Ġ100": NUMBER, "Ġ101": NUMBER - 1}
        ids = [spelled.get(token, id) for token, id in zip(encoded.tokens, encoded.ids)]
        return torch.tensor(ids, device=self.device)

    def fill(self, template, here, there, number):
        """[..., len] ids; here and there [...], number [..., 2]."""
        ids = template.expand(*here.shape, -1).clone()
        for mark, value in (
            (HERE, here),
            (THERE, there),
            (NUMBER, number[..., 0]),
            (NUMBER - 1, number[..., 1]),
        ):
            ids = torch.where(template == mark, value[..., None], ids)
        return ids


def draw(count, among, texts, device):
    """[texts, count] distinct numbers below `among` a text."""
    return torch.rand(texts, among, device=device).argsort(1)[:, :count]


def make(lang, prose, texts, tokens, chains, hops, asks, order=None):
    """asks: [(k, answer, brief)] a question each, of another chain each. order: None draws one a
    chain."""
    device = lang.device
    names = lang.names[draw(chains * (hops + 1), len(lang.names), texts, device)]
    names = names.view(texts, chains, hops + 1)
    numbers = torch.stack(
        [
            lang.numbers[draw(chains, len(lang.numbers), texts, device)],
            lang.numbers[torch.randint(len(lang.numbers), (texts, chains), device=device)],
        ],
        -1,
    )
    questions = [ask(lang, names, numbers, q, *asked) for q, asked in enumerate(asks)]
    tail = sum(ids.shape[1] for ids, *_ in questions)
    body = tokens - tail
    ids = filler(lang, prose, texts, tokens)
    starts = places(chains, hops + 1, body - 1, len(lang.hop), texts, device, order) + 1
    vault = lang.fill(lang.vault, names[..., -1], names[..., -1], numbers)
    put(ids, starts[..., -1:], vault[:, :, None])
    resolved = torch.full_like(ids, IGNORED)
    if hops:
        spread = numbers[:, :, None].expand(-1, -1, hops, -1)
        put(ids, starts[..., :-1], lang.fill(lang.hop, names[..., :-1], names[..., 1:], spread))
        last = starts[..., :-1] + len(lang.hop) - 2  # its last name, before the full stop
        later = starts.flip(-1).cummax(-1).values.flip(-1)[..., 1:]
        known = torch.where(starts[..., :-1] > later, spread[..., 0], IGNORED)
        resolved.scatter_(1, last.flatten(1), known.flatten(1))
    targets = torch.full_like(ids, IGNORED)
    asked, found, at = [], [], body
    for asked_ids, answer, steps in questions:
        ids[:, at : at + asked_ids.shape[1]] = asked_ids
        at += asked_ids.shape[1]
        asked.append(at - answer - 1)
        targets[:, at - answer - 1 : at - 1] = asked_ids[:, -answer:]
        found.append(steps)
    width = max((step.shape[1] for step in found), default=0)
    found = [torch.cat([s, s[:, -1:].expand(-1, width - s.shape[1])], 1) for s in found]
    return Batch(
        ids,
        targets,
        torch.tensor(asked, device=device).expand(texts, -1),
        torch.stack(found, 1),
        resolved,
        tuple(k for k, *_ in asks),
        tuple(answer == "list" for _, answer, _ in asks),
    )


def ask(lang, names, numbers, q, k, answer, brief):
    """A question about chain q: its ids and answer, the answer's length, what look-ups find."""
    hops = names.shape[2] - 1
    way = names[:, q, hops - k :]
    number = numbers[:, q]
    wording = (lang.brief if brief else lang.question)[answer]
    question = lang.fill(wording, way[:, 0], way[:, 0], number)

    def constant(id):
        return torch.full_like(number[:, :1], id)

    stops = []
    if answer == "list":
        stops = [part for j in range(1, k + 1) for part in (way[:, j, None], constant(lang.comma))]
    reply = torch.cat([*stops, number, constant(lang.stop), constant(lang.end)], 1)
    steps = torch.cat([way[:, 1:], number[:, :1]], 1)
    if answer == "list":
        steps = reply[:, :1]
    return torch.cat([question, reply], 1), reply.shape[1], steps


def filler(lang, prose, texts, tokens):
    """Running prose from anywhere, after the token that begins every text."""
    start = torch.randint(len(prose) - tokens, (texts, 1), device=lang.device)
    ids = prose[start + torch.arange(tokens, device=lang.device)]
    ids[:, 0] = lang.end
    return ids


def places(chains, count, body, length, texts, device, order):
    """[texts, chains, count] where statements begin: apart, anywhere below `body`."""
    wide = length + 1
    slots = draw(chains * count, body // wide, texts, device).view(texts, chains, count)
    sorted_slots = slots.sort(-1).values
    if order is None:
        kind = torch.randint(3, (texts, chains, 1), device=device)
    else:
        kind = torch.full((texts, chains, 1), ("forward", "reverse", "random").index(order))
        kind = kind.to(device)
    slots = torch.where(
        kind == 0, sorted_slots, torch.where(kind == 1, sorted_slots.flip(-1), slots)
    )
    spare = max(body - body // wide * wide, 0)
    shift = torch.randint(spare + 1, (texts, 1, 1), device=device)
    return slots * wide + shift


def put(ids, starts, statements):
    """Writes statements [texts, chains, n, len] at starts [texts, chains, n]."""
    at = starts[..., None] + torch.arange(statements.shape[-1], device=ids.device)
    ids.scatter_(1, at.flatten(1), statements.flatten(1))
