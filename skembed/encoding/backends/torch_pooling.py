"""Pooling: token vectors to one vector a text. Pure functions on tensors; imports no model and no text.

The six modes and their definitions are those of sentence-transformers' ``Pooling`` module
(Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, for cls, mean and max;
Muennighoff 2022, https://arxiv.org/abs/2202.08904, for weightedmean and lasttoken).

Token vectors have shape (n_texts, n_tokens, n_dims) and are padded on the right; ``is_pooled``, shape
(n_texts, n_tokens), is True on the tokens that count. Where none counts (a prompt that fills the whole text and is
itself left out), the result is the zero vector; ``cls`` keeps the first token, as sentence-transformers does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def cls_pool(token_vectors: Tensor, is_pooled: Tensor) -> Tensor:
    """Take the first token's vector."""
    first = is_pooled.to(torch.uint8).argmax(dim=1)
    return _token_at(first, token_vectors)


def lasttoken_pool(token_vectors: Tensor, is_pooled: Tensor) -> Tensor:
    """Take the last token's vector."""
    last = is_pooled.shape[1] - 1 - is_pooled.flip(1).to(torch.uint8).argmax(dim=1)
    return _zero_if_none(_token_at(last, token_vectors), is_pooled)


def max_pool(token_vectors: Tensor, is_pooled: Tensor) -> Tensor:
    """Take the largest value of each dimension over the tokens."""
    largest = token_vectors.masked_fill(~is_pooled[..., None], -torch.inf).amax(dim=1)
    return _zero_if_none(largest, is_pooled)


def mean_pool(token_vectors: Tensor, is_pooled: Tensor) -> Tensor:
    """Average the tokens' vectors."""
    return _weighted_sum(token_vectors, is_pooled / _n_pooled(is_pooled))


def mean_sqrt_len_tokens_pool(token_vectors: Tensor, is_pooled: Tensor) -> Tensor:
    """Sum the tokens' vectors and divide by the square root of their number."""
    return _weighted_sum(token_vectors, is_pooled / _n_pooled(is_pooled).sqrt())


def weightedmean_pool(token_vectors: Tensor, is_pooled: Tensor) -> Tensor:
    """Average the tokens' vectors, the token at position i (from 1) with weight i."""
    positions = torch.arange(1, is_pooled.shape[1] + 1, device=is_pooled.device)
    weights = is_pooled * positions
    return _weighted_sum(token_vectors, weights / weights.sum(dim=1, keepdim=True).clamp(min=1))


POOLERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": cls_pool,
    "max": max_pool,
    "mean": mean_pool,
    "mean_sqrt_len_tokens": mean_sqrt_len_tokens_pool,
    "weightedmean": weightedmean_pool,
    "lasttoken": lasttoken_pool,
}


def _n_pooled(is_pooled: Tensor) -> Tensor:
    return is_pooled.sum(dim=1, keepdim=True, dtype=torch.float32).clamp(min=1)


def _weighted_sum(token_vectors: Tensor, weights: Tensor) -> Tensor:
    """Sum over the tokens as one matrix product a text: a single pass over the token vectors."""
    return torch.bmm(weights.to(token_vectors.dtype)[:, None, :], token_vectors)[:, 0, :]


def _token_at(position: Tensor, token_vectors: Tensor) -> Tensor:
    return token_vectors[torch.arange(len(position), device=position.device), position]


def _zero_if_none(pooled: Tensor, is_pooled: Tensor) -> Tensor:
    return pooled.masked_fill(~is_pooled.any(dim=1, keepdim=True), 0.0)
