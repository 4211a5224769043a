"""What a training run is made of: the private model, its loss, and batches that hold each text once. Imports torch."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn

from skembed.encoding.backends.torch_backend import TorchBackend, mark_torch_used
from skembed.encoding.backends.torch_reader import input_module, route_through
from skembed.encoding.plan import Plan
from skembed.encoding.settings import TASKS
from skembed.optional import require
from skembed.training.data import TrainingData
from skembed.training.losses import OBJECTIVES, TEXT_COLUMNS, compares_drawn_pairs
from skembed.training.settings import TrainingSettings

if TYPE_CHECKING:
    from peft import LoraModel

_PROMPT_NAME = "fine_tuning"
_MOST_TEXTS_A_PART = 32  # of a batch whose gradients are cached


def private_copy(plan: Plan) -> SentenceTransformer:
    """Copy a model to train it, and make the settings that shape its vectors its own.

    Parameters
    ----------
    plan : Plan
        In float32.

    Returns
    -------
    SentenceTransformer
        Whose pooling, limit of tokens and default prompt are those of the plan. Its route for texts without a task is
        that of the plan's task.

    Raises
    ------
    ValueError
        If several poolings are to go through a layer that was trained for one, or the model's own code reads the task.
    """
    mark_torch_used()
    backend, recipe = cast("TorchBackend", plan.model.backend), plan.recipes[0]  # the one that trains
    task = plan.settings.task
    if "task=" in (recipe.route or ""):
        raise ValueError(f"task={task!r}: the model's own code reads the task, so that it cannot be trained for one.")
    with plan.model.lock:
        model = copy.deepcopy(backend.sentence_transformer)
    model.requires_grad_(True)
    if backend.spec is not None:
        modes = plan.settings.pooling_names
        if modes is not None:
            if len(modes) > 1 and backend.post_pooling:
                raise ValueError(
                    f"pooling={modes!r}: the model's {backend.post_pooling[0].name} layer takes one at a time."
                )
            model[1] = Pooling(backend.spec.hidden_dim, modes, include_prompt=backend.spec.include_prompt)
    if recipe.max_seq_length is not None:
        input_module(model, task).max_seq_length = recipe.max_seq_length
    if task is not None:
        _take_route_by_default(model, task)
    if recipe.prompt:
        model.prompts = {**model.prompts, _PROMPT_NAME: recipe.prompt}
    model.default_prompt_name = _PROMPT_NAME if recipe.prompt else None
    return model


def _take_route_by_default(model: SentenceTransformer, task: str) -> None:
    """Send texts without a task through the route of one; those with a task go where they went before."""
    for router in model.modules():
        if isinstance(router, Router):
            for asked, of in [*((other, other) for other in TASKS), (None, task)]:
                with suppress(ValueError):  # there is none
                    router.route_mappings[asked, "text"] = route_through(router, of)


def make_loss(
    settings: TrainingSettings, loss_name: str, model: SentenceTransformer, data: TrainingData, n_parts: int
) -> nn.Module:
    """Make a loss for a model.

    Parameters
    ----------
    settings : TrainingSettings
        Whose ``loss``, if it is an object, is copied, and the copy bound to the model.
    loss_name : str
        What :func:`skembed.training.losses.name_loss` calls it.
    model : SentenceTransformer
    data : TrainingData
    n_parts : int
        Parts that a batch is encoded in, where a loss can do so by itself.

    Returns
    -------
    torch.nn.Module
    """
    if settings.matryoshka_dims is not None and loss_name == "softmax":
        raise ValueError("loss='softmax' has a layer for all dimensions; pass matryoshka_dims=None with it.")
    made: nn.Module
    needs_numbers = loss_name == "softmax" and inspect.isclass(settings.loss)  # of dimensions and classes
    if isinstance(settings.loss, str) or needs_numbers:
        made = _make_named(loss_name, model, data, -(-settings.batch_size // n_parts))
    elif isinstance(settings.loss, nn.Module):
        made = _bound_to(model, settings.loss)
    else:
        made = settings.loss(model)
    if compares_drawn_pairs(loss_name, data):
        made = DeduplicatedPairsLoss(model, made)
    if settings.matryoshka_dims is not None:  # see Kusupati et al. (2022), https://arxiv.org/abs/2205.13147
        made = losses.MatryoshkaLoss(model, made, matryoshka_dims=_dims(model, settings.matryoshka_dims))
    return made


def _dims(model: SentenceTransformer, asked: Sequence[int]) -> list[int]:
    """List dimensions from the largest down; all of them are always the first."""
    own = model.get_embedding_dimension() or 0
    if max(asked) > own:
        raise ValueError(f"matryoshka_dims={tuple(asked)}: the vectors have only {own} dimensions.")
    return sorted({own, *map(int, asked)}, reverse=True)


def _make_named(loss_name: str, model: SentenceTransformer, data: TrainingData, part_size: int) -> nn.Module:
    objective = OBJECTIVES[loss_name]
    options: dict[str, Any] = dict(objective.options)
    if loss_name == "softmax" and data.classes is not None:
        options |= {"embedding_dimension": model.get_embedding_dimension(), "num_labels": len(data.classes)}
    if loss_name == "cached_multiple_negatives_ranking":
        options["mini_batch_size"] = min(part_size, _MOST_TEXTS_A_PART)
    made: nn.Module = getattr(losses, objective.class_name)(model, **options)
    return made


def make_collator(loss_name: str, model: SentenceTransformer, data: TrainingData) -> SentenceTransformerDataCollator:
    """Make what turns rows of texts into a batch of tokens."""
    kind = TextsOnceCollator if compares_drawn_pairs(loss_name, data) else SentenceTransformerDataCollator
    prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    return kind(preprocess_fn=model.preprocess, prompts=prompt)


@dataclass
class TextsOnceCollator(SentenceTransformerDataCollator):
    """Tokenises each distinct text of a batch of pairs once.

    The label of a pair becomes a row of three: the places of its two texts among the distinct ones, and the label.
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of rows with two texts and a label."""
        left, right = TEXT_COLUMNS[:2]
        place: dict[str, int] = {}
        rows = [
            [place.setdefault(row[left], len(place)), place.setdefault(row[right], len(place)), row["label"]]
            for row in features
        ]
        batch: dict[str, Any] = super().__call__([{left: text} for text in place])
        return {**batch, "label": torch.tensor(rows)}


class DeduplicatedPairsLoss(nn.Module):
    """Encodes each distinct text of a batch of pairs once, and lets a loss compare the pairs.

    Sixteen pairs out of a few dozen texts repeat many of them: this is where most of the time goes.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Compute the loss of a batch of ``TextsOnceCollator``."""
        vectors = self.model(sentence_features[0])["sentence_embedding"]
        left, right = labels[:, 0].long(), labels[:, 1].long()
        compare: Any = self.loss.compute_loss_from_embeddings
        result: Tensor = compare([vectors[left], vectors[right]], labels[:, 2])
        return result


def _bound_to(model: SentenceTransformer, loss: nn.Module) -> nn.Module:
    """Copy a loss, with another model wherever it holds its own; one that it only consults, as a guide, stays."""
    own: dict[int, Any] = {}
    part: Any = loss
    while part is not None:  # a loss may be made around another one
        own |= {id(module): model for module in [getattr(part, "model", None)] if module is not None}
        part = getattr(part, "loss", None)
    bound: nn.Module = copy.deepcopy(loss, memo=own)
    return bound


def add_adapters(model: SentenceTransformer, rank: int) -> LoraModel:
    """Freeze the transformer of a model, and put low-rank adapters into its linear layers.

    Parameters
    ----------
    model : SentenceTransformer
        Changed in place.
    rank : int

    Returns
    -------
    LoraModel
        Whose ``merge_and_unload`` adds the adapters to the weights and takes them out again, in place too.

    Raises
    ------
    ImportError
        If peft is not installed.
    ValueError
        If the model has no transformer.

    Notes
    -----
    Hu et al. (2021), LoRA, https://arxiv.org/abs/2106.09685; the scale is 2, as often used there.
    """
    peft = require("peft", extra="train", needed_by="lora_rank")
    transformer = model.transformers_model
    if transformer is None:
        raise ValueError("lora_rank puts adapters into a transformer, and this model has none; pass lora_rank=None.")
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    adapters: LoraModel = peft.LoraModel(transformer, config, "default")
    return adapters
