"""Llama in PyTorch, its layers' weights stacked, and the start that lets it learn in minutes."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

SPREAD = 0.25  # standard deviation of an embedding's entries at the start


@dataclass(frozen=True)
class Shape:
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    theta: float = 5e5
    eps: float = 1e-5


class Llama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = s = shape

        def stack(rows, cols, std):
            return nn.Parameter(torch.randn(s.layers, rows, cols) * std)

        std = 1 / math.sqrt(s.width)
        self.embedding = nn.Parameter(torch.randn(s.vocab, s.width) * SPREAD)
        self.q = stack(s.heads * s.head_dim, s.width, std)
        self.k = stack(s.kv_heads * s.head_dim, s.width, std)
        self.v = stack(s.kv_heads * s.head_dim, s.width, std)
        self.o = stack(s.width, s.heads * s.head_dim, 1 / math.sqrt(s.heads * s.head_dim))
        self.gate = stack(s.inner, s.width, std)
        self.up = stack(s.inner, s.width, std)
        self.down = stack(s.width, s.inner, 0)
        self.norm_attention = nn.Parameter(torch.ones(s.layers, s.width))
        self.norm_mlp = nn.Parameter(torch.ones(s.layers, s.width))
        # Small, so that the first logits are: they are products with the embeddings.
        self.norm = nn.Parameter(torch.full((s.width,), 1 / math.sqrt(s.width)))
        look_back(self)

    def angles(self, tokens, device):
        s = self.shape
        half = torch.arange(s.head_dim // 2, device=device)
        frequency = s.theta ** (-2 * half / s.head_dim)
        angle = torch.arange(tokens, device=device)[:, None] * frequency
        return angle.cos(), angle.sin()

    def forward(self, ids, keep=()):
        """Hidden states after the last norm, and those after the layers of `keep`."""
        s = self.shape
        x = self.embedding[ids].bfloat16()
        texts, tokens = ids.shape
        cos, sin = (a.bfloat16() for a in self.angles(tokens, ids.device))
        cos, sin = (a.repeat(texts, 1)[:, None] for a in (cos, sin))
        kept = {}
        x = x.flatten(0, 1)
        for layer in range(s.layers):
            weights = [w[layer] for w in (self.norm_attention, self.q, self.k, self.v)]
            q, k, v = before_attention(x, cos, sin, *weights, s.head_dim, s.eps)
            q, k, v = (a.view(texts, tokens, -1, s.head_dim).transpose(1, 2) for a in (q, k, v))
            out = functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=s.heads != s.kv_heads
            )
            out = out.transpose(1, 2).reshape(texts * tokens, -1)
            weights = (self.o, self.norm_mlp, self.gate, self.up, self.down)
            x = after_attention(x, out, *(w[layer] for w in weights), s.eps)
            if layer in keep:
                kept[layer] = x.view(texts, tokens, -1)
        return rms_norm(x, self.norm, s.eps).view(texts, tokens, -1), kept

    def logits(self, hidden):
        return hidden.float() @ self.embedding.T


def rms_norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).bfloat16()


def turn(x, cos, sin):
    """RoPE of [tokens, heads, head_dim], the halves as pairs."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def before_attention(x, cos, sin, norm, q, k, v, head_dim, eps):
    h = rms_norm(x, norm, eps)
    q, k, v = (functional.linear(h, w.bfloat16()).unflatten(-1, (-1, head_dim)) for w in (q, k, v))
    return turn(q, cos, sin), turn(k, cos, sin), v


def after_attention(x, out, o, norm, gate, up, down, eps):
    x = x + functional.linear(out, o.bfloat16())
    h = rms_norm(x, norm, eps)
    inner = functional.silu(functional.linear(h, gate.bfloat16()))
    inner = inner * functional.linear(h, up.bfloat16())
    return x + functional.linear(inner, down.bfloat16())


@torch.no_grad()
def look_back(model, pairs=8, peak=10.0):
    """Three heads of layer 0 begin by looking one, two and three tokens back; other layers begin
    as nothing.

    Finding "the name before this one" is what a model of this size spends most of its training on.
    Dimension 0 of every embedding is constant, so that queries and keys made of it alone depend on
    position only: with the `pairs` fastest pairs of RoPE, and the query turned by `back` positions,
    their product is largest at that distance, by about `peak`·0.8 nats over the next.
    """
    s = model.shape
    model.embedding[:, 0] = 1.0
    constant = 1 / math.sqrt(SPREAD**2 + (1 - SPREAD**2) / s.width)  # dimension 0 behind the norm
    size = math.sqrt(peak * math.sqrt(s.head_dim)) / constant
    half = s.head_dim // 2
    frequency = s.theta ** (-2 * torch.arange(pairs) / s.head_dim)
    per_group = s.heads // s.kv_heads
    for group in {h // per_group for h in range(3)}:
        rows = model.k[0, group * s.head_dim : (group + 1) * s.head_dim]
        rows.zero_()
        rows[:pairs, 0] = size
    for head in range(3):
        rows = model.q[0, head * s.head_dim : (head + 1) * s.head_dim]
        rows.zero_()
        angle = (head + 1) * frequency
        # Turned back by `head + 1` positions: q at t meets k at t - (head + 1) at angle 0.
        rows[:pairs, 0] = size * angle.cos()
        rows[half : half + pairs, 0] = -size * angle.sin()
    model.o[0] *= 0.25  # what is looked at weighs about as much as the token itself
    model.o[1:] = 0
