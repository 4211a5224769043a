"""Batches in which no text occurs twice, for losses to which other examples of a batch are negatives. Imports torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from sentence_transformers.base.sampler import DefaultBatchSampler


class TextsApart(DefaultBatchSampler):
    """Batches of similar size in which no text occurs twice; each epoch deals all examples anew.

    The trainer computes the number of its steps from the length of its sampler. The sampler of sentence-transformers
    estimates its length from the number of examples. If examples share texts, the estimate is too low, and the trainer
    stops before it has seen all of them. The length of this sampler is the number of batches that it yields, which is
    the same in each epoch.

    Parameters
    ----------
    dataset : Dataset
        Columns of text, and of labels.
    n_apart : int, default=3
        Number of leading columns of text whose texts no other example of the batch may hold in any column. Texts of the
        other columns, which are negatives to the whole batch, may occur twice.
    **options
        ``batch_size`` and the other parameters of every sampler of sentence-transformers.
    """

    def __init__(self, dataset: Any, n_apart: int = 3, **options: Any) -> None:
        super().__init__(dataset, **options)
        names = [name for name in dataset.column_names if name not in (self.valid_label_columns or ())]
        number: defaultdict[str, int] = defaultdict(lambda: len(number))
        rows = [[number[text] for text in row] for row in zip(*(dataset[name][:] for name in names), strict=True)]
        n_examples = Counter(text for row in rows for text in set(row))
        n_kept_apart = Counter(text for row in rows for text in set(row[:n_apart]))
        self._n_texts = len(number)
        # A text of one example only restricts no other example.
        shared = [[text if n_examples[text] > 1 else -1 for text in row] for row in rows]
        self._apart = [set(row[:n_apart]) - {-1} for row in shared]
        self._others = [set(row[n_apart:]) - {-1} for row in shared]
        self._most_shared = [max(row[:n_apart], key=n_kept_apart.__getitem__) for row in rows]
        self._n_sharing = np.array([n_kept_apart[text] for text in self._most_shared])
        self._n_batches = max(-(-len(rows) // self.batch_size), int(self._n_sharing.max(initial=0)))
        self._first = self._deal(0)
        self._n_batches = len(self._first)

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch that ``set_epoch`` has set."""
        dealt = self._deal(self.epoch)
        if len(dealt) != len(self):  # rare: examples that share texts came in an unfavourable order
            dealt = self._first
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(dealt))
        yield from (dealt[position] for position in order.tolist())

    def _deal(self, epoch: int) -> list[list[int]]:
        """Deal the examples to the batches in turn; those that share a text follow each other."""
        batches: list[list[int]] = [[] for _ in range(self._n_batches)]
        apart_in: defaultdict[int, set[int]] = defaultdict(set)  # text → batches that hold it in a leading column
        other_in: defaultdict[int, set[int]] = defaultdict(set)  # text → batches that hold it in another column
        start = 0
        for row in self._order(epoch):
            apart, others = self._apart[row], self._others[row]
            taken = [apart_in[text] for text in (*apart, *others)] + [other_in[text] for text in apart]
            for turn in chain(range(start, len(batches)), range(start)):
                if len(batches[turn]) < self.batch_size and not any(turn in those for those in taken):
                    break
            else:
                turn = len(batches)
                batches.append([])
            start = (turn + 1) % len(batches)
            batches[turn].append(row)
            for text in apart:
                apart_in[text].add(turn)
            for text in others:
                other_in[text].add(turn)
        return [batch for batch in batches if batch]

    def _order(self, epoch: int) -> list[int]:
        """Order the examples by their most shared text, the most shared first; the rest of the order is random."""
        rng = np.random.default_rng([self.seed, epoch])
        texts = rng.permutation(self._n_texts)[self._most_shared]
        order: list[int] = np.lexsort([rng.permutation(len(texts)), texts, -self._n_sharing]).tolist()
        return order
