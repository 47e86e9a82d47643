"""Trains the small model that follows chains, and writes it as a Hugging Face folder.

    make hops-model     or, in an environment with PyTorch and a GPU:
    PYTHONPATH=datasets python -m hops.train --out FOLDER [--shape hops-64] [--seconds 140]

A constructed instrument, not a language model: it learns chain_k's sentences over prose and nothing
else.  README.md says how, why each part is there, and what came out.
"""

import argparse
import contextlib
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from hops import data, language, save
from hops import model as model_file

SHAPES = {
    "hops-64": dict(width=256, layers=12, heads=4, kv_heads=2, head_dim=64, inner=512),
    "hops-128": dict(width=256, layers=12, heads=4, kv_heads=1, head_dim=128, inner=512),
    "toy": dict(width=64, layers=4, heads=4, kv_heads=2, head_dim=32, inner=128),
}
LENGTHS = (1024, 2048, 4096, 8192, 16384)
TOKENS_A_STEP = 65536
DEEPEST = 4
LEARNT = 0.85  # exact matches of the deepest questions over WINDOW batches: on to the next stage
WINDOW = 25
LISTS = 0.2  # share of questions that ask for the way
MOST_CHAINS = 24
EASIER = 0.35  # share of batches from a stage that is passed
AUXILIARY_UNTIL = 0.85  # of the time
WARM_UP, FALLING = 60, 0.35  # steps; share of the time in which the rate falls to LAST of itself
LAST = 0.03
MUON_RATE, ADAM_RATE, DECAY = 0.01, 3e-3, 0.05
# Every token that is no answer is pushed the same way at each step, however little, and Adam makes
# large steps of little gradients: at ADAM_RATE and an epsilon of 1e-8, after 40 steps nine tenths
# of what an embedding had moved was what all had, and 2,900 steps taught no look-up: names sank in
# what they had in common. So a small rate, and an epsilon above those gradients.
EMBEDDING_RATE, EPSILON = 3e-4, 1e-6
WEIGHTS = {"probe": 0.3, "rows": 0.5, "deep": 0.3}
DEEP_LAYERS = (3, 7)  # after which the answers of lists are read too
FIRST_PROBE = 2  # the first look-up can be done by the layer after this


class Auxiliary(torch.nn.Module):
    """Matrices through which hidden states are asked what they should know; thrown away."""

    def __init__(self, width, layers):
        super().__init__()
        self.probes = [layer for j in range(DEEPEST + 1) if (layer := FIRST_PROBE + j) < layers - 1]
        self.deep = [layer for layer in DEEP_LAYERS if layer < layers - 1]
        count = len(self.probes) + len(self.deep) + 1
        self.maps = torch.nn.Parameter(torch.eye(width).repeat(count, 1, 1) / math.sqrt(width))

    def map(self, hidden, which):
        scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + 1e-5)
        return (hidden.float() * scale) @ self.maps[which].T


def losses(model, auxiliary, batch, with_auxiliary):
    """The loss, and exact matches [texts, questions]."""
    keep = {*auxiliary.probes, *auxiliary.deep} if with_auxiliary else ()
    hidden, kept = model(batch.ids, keep)
    rows, cols = (batch.targets != data.IGNORED).nonzero(as_tuple=True)
    wanted = batch.targets[rows, cols]
    logits = model.logits(hidden[rows, cols])
    total = functional.cross_entropy(logits, wanted)
    wrong = torch.zeros_like(batch.targets).index_put(
        (rows, cols), (logits.argmax(-1) != wanted).long()
    )
    errors = wrong.cumsum(1)
    ends = [*batch.asked[0, 1:].tolist(), batch.ids.shape[1]]
    before = errors.gather(1, batch.asked - 1)
    after = torch.stack([errors[:, end - 1] for end in ends], 1)
    exact = after == before
    if not with_auxiliary:
        return total, exact
    direct = [q for q, is_list in enumerate(batch.lists) if not is_list]
    at = torch.arange(len(batch.ids), device=batch.ids.device)[:, None]
    if direct:
        terms = []
        for j, layer in enumerate(auxiliary.probes):
            seen = kept[layer][at, batch.asked[:, direct]]
            found = batch.found[:, direct, min(j, batch.found.shape[2] - 1)]
            terms.append(cross_entropy(model, auxiliary.map(seen, j), found))
        total = total + WEIGHTS["probe"] * torch.stack(terms).mean()
    rows_at = (batch.resolved != data.IGNORED).nonzero(as_tuple=True)
    if len(rows_at[0]):
        seen = auxiliary.map(hidden[rows_at], -1)
        total = total + WEIGHTS["rows"] * cross_entropy(model, seen, batch.resolved[rows_at])
    if len(direct) < len(batch.lists):
        terms = [
            cross_entropy(
                model, auxiliary.map(kept[layer][rows, cols], len(auxiliary.probes) + i), wanted
            )
            for i, layer in enumerate(auxiliary.deep)
        ]
        if terms:
            total = total + WEIGHTS["deep"] * torch.stack(terms).mean()
    return total, exact


def cross_entropy(model, hidden, wanted):
    return functional.cross_entropy(model.logits(hidden).flatten(0, -2), wanted.flatten())


class Muon:
    """Steps of orthogonalised momentum for stacks of matrices (Jordan et al. 2024)."""

    def __init__(self, stacks):
        self.stacks = stacks
        self.momenta = [torch.zeros_like(stack) for stack in stacks]

    @torch.no_grad()
    def step(self, rate, momentum=0.95):
        for stack, kept in zip(self.stacks, self.momenta):
            kept.lerp_(stack.grad, 1 - momentum)
            update = orthogonal(stack.grad.lerp(kept, momentum))
            rows, cols = stack.shape[-2:]
            stack.mul_(1 - DECAY * rate)
            stack.add_(update, alpha=-rate * math.sqrt(max(1, rows / cols)))


def orthogonal(x, steps=5):
    """Newton-Schulz iteration towards the nearest orthogonal matrices, of a stack at once."""
    wide = x.shape[-1] >= x.shape[-2]
    x = (x if wide else x.mT).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x if wide else x.mT).float()


@dataclass
class Stage:
    tokens: int
    hops: int


def stages(lengths):
    first = [Stage(lengths[0] // 2, hops) for hops in range(2)]
    return (
        first
        + [Stage(lengths[0], hops) for hops in range(2, DEEPEST + 1)]
        + [Stage(tokens, DEEPEST) for tokens in lengths[1:]]
    )


def make_batch(lang, prose, stage, tokens_a_step, rng):
    hops = stage.hops
    chains = most_chains(lang, stage)
    chains = rng.randint(max(chains // 2, 2), chains)
    asked = [
        (
            hops if rng.random() < 0.5 else rng.randint(0, hops),
            "list" if rng.random() < LISTS else "direct",
            q > 0,
        )
        for q in range(chains)
    ]
    texts = max(tokens_a_step // stage.tokens, 1)
    return data.make(lang, prose, texts, stage.tokens, chains, hops, asked)


def most_chains(lang, stage):
    """As many as fit with their questions, one of which is asked at length."""
    longest = max(map(len, lang.question.values())) + 2 * DEEPEST + 4
    brief = max(map(len, lang.brief.values())) + 2 * DEEPEST + 4
    told = 1.15 * (stage.hops + 1) * (len(lang.hop) + 1)
    return min(MOST_CHAINS, int((stage.tokens - longest - 30) / (told + brief)))


def train(options, lang, prose, model, auxiliary, log):
    rng = random.Random(options.seed)
    plan = stages(options.lengths)
    stage, recent, step, begin = 0, [], 0, time.time()
    stacks = [model.q, model.k, model.v, model.o, model.gate, model.up, model.down]
    norms = [model.norm_attention, model.norm_mlp, model.norm]
    muon = Muon(stacks)
    adam = torch.optim.AdamW(
        [
            {"params": [model.embedding], "rate": EMBEDDING_RATE},
            {"params": [*norms, *auxiliary.parameters()], "rate": ADAM_RATE},
        ],
        betas=(0.9, 0.95),
        eps=EPSILON,
        weight_decay=0,
        fused=options.device == "cuda",
    )
    seen = 0
    while (share := (time.time() - begin) / options.seconds) < 1 and step < options.steps:
        easier = stage > 0 and rng.random() < EASIER
        at = plan[rng.randrange(stage)] if easier else plan[stage]
        batch = make_batch(lang, prose, at, options.step_tokens, rng)
        rate = min(1, (step + 1) / WARM_UP) * min(1, LAST + (1 - LAST) * (1 - share) / FALLING)
        loss, exact = losses(model, auxiliary, batch, share < AUXILIARY_UNTIL)
        model.zero_grad(set_to_none=True)
        auxiliary.zero_grad(set_to_none=True)
        loss.backward()
        for p in (*model.parameters(), *auxiliary.parameters()):
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *auxiliary.parameters()], 1.0)
        muon.step(MUON_RATE * rate)
        for group in adam.param_groups:
            group["lr"] = group["rate"] * rate
        adam.step()
        step += 1
        seen += batch.ids.numel()
        if not easier:
            deepest = [
                q
                for q, (k, ls) in enumerate(zip(batch.hops, batch.lists))
                if k == at.hops and not ls
            ]
            if deepest:
                recent.append(exact[:, deepest].float().mean().item())
            learnt = len(recent) >= WINDOW and sum(recent[-WINDOW:]) / WINDOW > LEARNT
            if learnt and stage + 1 < len(plan):
                log(f"{time.time() - begin:6.1f} s, step {step}: learnt {plan[stage]}")
                recent, stage = [], stage + 1
        if step % options.log_every == 0:
            mean = sum(recent[-WINDOW:]) / max(len(recent[-WINDOW:]), 1)
            log(
                f"{time.time() - begin:6.1f} s, step {step}, {seen / 1e6:.1f} M tokens, "
                f"{plan[stage]}: loss {loss.item():.3f}, deepest {mean:.2f}"
            )
    log(f"{time.time() - begin:6.1f} s: {step} steps, {seen / 1e6:.1f} M tokens")


@torch.no_grad()
def evaluate(lang, prose, model, lengths, texts, log):
    """Exact matches of one question at the end of held-out texts: {length: {question: share}}."""
    result = {}
    for tokens in lengths:
        result[tokens] = {}
        for order in ("forward", "reverse", "random"):
            for k in range(DEEPEST + 1):
                asks = [("direct", k)] + ([("list", k)] if k in (1, DEEPEST) else [])
                for answer, hops in asks:
                    chains = min(max(tokens // 256, 2), 8)
                    right = []
                    for _ in range(0, texts, 16):
                        batch = data.make(
                            lang, prose, 16, tokens, chains, DEEPEST, [(hops, answer, False)], order
                        )
                        right.append(losses(model, NOTHING, batch, False)[1].float().mean().item())
                    result[tokens][f"{answer} {k} {order}"] = sum(right) / len(right)
        log(f"{tokens}: " + ", ".join(f"{q} {100 * v:.0f}" for q, v in result[tokens].items()))
    return result


class Nothing:
    probes, deep = (), ()


NOTHING = Nothing()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="hops-64")
    parser.add_argument("--text", type=Path, default=Path("datasets/texts/austen.txt"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=140)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lengths", type=lambda t: [int(x) for x in t.split(",")], default=LENGTHS)
    parser.add_argument(
        "--evaluate", type=lambda t: [int(x) for x in t.split(",")], default=(512, *LENGTHS, 32768)
    )
    parser.add_argument("--texts", type=int, default=48, help="a cell of the evaluation")
    parser.add_argument("--step-tokens", type=int, default=TOKENS_A_STEP)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []

    def log(line):
        print(line, flush=True)
        lines.append(line)

    text = options.text.read_text(encoding="utf-8")
    tokenizer = language.tokenizer(text)
    lang = data.Language(tokenizer, options.device)
    prose = torch.tensor(tokenizer.encode(text).ids, device=options.device)
    cut = len(prose) * 9 // 10  # the last tenth is for the evaluation
    shape = model_file.Shape(vocab=tokenizer.get_vocab_size(), **SHAPES[options.shape])
    model = model_file.Llama(shape).to(options.device)
    auxiliary = Auxiliary(shape.width, shape.layers).to(options.device)
    log(f"{options.shape}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    if not options.no_compile:
        model_file.before_attention = torch.compile(model_file.before_attention)
        model_file.after_attention = torch.compile(model_file.after_attention)
    with contextlib.suppress(KeyboardInterrupt):
        train(options, lang, prose[:cut], model, auxiliary, log)
    torch.manual_seed(options.seed + 1)
    result = evaluate(lang, prose[cut:], model, options.evaluate, options.texts, log)
    save.folder(options.out, model, tokenizer)
    (options.out / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "train.log").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
