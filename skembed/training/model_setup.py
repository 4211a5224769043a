"""The private model of a training, its loss, and the collator of its batches. Imports the torch backend and losses."""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
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
from skembed.training.adaptation import make_adaptation
from skembed.training.data import TrainingData
from skembed.training.losses import ADAPTATIONS, OBJECTIVES, TEXT_COLUMNS, compares_drawn_pairs
from skembed.training.settings import TrainingSettings

if TYPE_CHECKING:
    from peft import LoraModel

_PROMPT_NAME = "fine_tuning"
_MOST_TEXTS_PER_PART = 32  # of a batch whose gradients are cached
_OF_ALL_DIMENSIONS = {  # losses that cannot be computed of the first dimensions of a vector
    "softmax": "has a layer for all dimensions",
    "tsdae": "rebuilds a text from all dimensions of its vector",
    "mlm": "learns from tokens, not from the vector of a text",
}


def private_copy(plan: Plan) -> SentenceTransformer:
    """Copy a model for training, and make settings that shape its vectors its own.

    Parameters
    ----------
    plan : Plan
        In float32.

    Returns
    -------
    SentenceTransformer
        Its pooling, token limit and default prompt are those of the plan. Texts without a task take the route of the
        plan's task.

    Raises
    ------
    ValueError
        If several poolings would pass through a layer that was trained for one, or the model's own code reads the task.
    """
    mark_torch_used()
    backend, recipe = cast("TorchBackend", plan.model.backend), plan.recipes[0]
    task = plan.settings.task
    if "task=" in (recipe.route or ""):
        raise ValueError(f"task={task!r}: the model's own code reads the task, so it cannot be trained for one.")
    with plan.model.lock:
        model = copy.deepcopy(backend.sentence_transformer)
    model.requires_grad_(True)
    spec, modes = backend.spec, plan.settings.pooling_names
    if spec is not None and modes is not None:
        if len(modes) > 1 and backend.post_pooling:
            raise ValueError(
                f"pooling={modes!r}: the model's {backend.post_pooling[0].name} layer takes one at a time."
            )
        model[1] = Pooling(spec.hidden_dim, modes, include_prompt=spec.include_prompt)
    if recipe.max_seq_length is not None:
        input_module(model, task).max_seq_length = recipe.max_seq_length
    if task is not None:
        _set_default_route(model, task)
    if recipe.prompt:
        model.prompts = {**model.prompts, _PROMPT_NAME: recipe.prompt}
    model.default_prompt_name = _PROMPT_NAME if recipe.prompt else None
    return model


def _set_default_route(model: SentenceTransformer, task: str) -> None:
    """Send texts without a task through the route of ``task``; texts with a task keep their route."""
    for router in model.modules():
        if isinstance(router, Router):
            for given, taken in [*((other, other) for other in TASKS), (None, task)]:
                with suppress(ValueError):  # the router has no such route
                    router.route_mappings[given, "text"] = route_through(router, taken)


def make_loss(
    settings: TrainingSettings, loss_name: str, model: SentenceTransformer, data: TrainingData, n_parts: int
) -> nn.Module:
    """Make the loss that trains a model.

    Parameters
    ----------
    settings : TrainingSettings
        If ``loss`` is an object, it is copied, and the copy is bound to the model.
    loss_name : str
        From :func:`skembed.training.losses.name_loss`.
    model : SentenceTransformer
    data : TrainingData
    n_parts : int
        Number of parts in which a loss that caches gradients encodes a batch.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If a parameter makes no sense with the loss, or the loss does not fit the model.
    """
    _check_parameters(settings, loss_name)
    if loss_name in ADAPTATIONS:
        return make_adaptation(loss_name, model)
    made: nn.Module
    needs_sizes = loss_name == "softmax" and inspect.isclass(settings.loss)  # numbers of dimensions and classes
    if isinstance(settings.loss, str) or needs_sizes:
        made = _make_named(loss_name, model, data, -(-settings.batch_size // n_parts))
    elif isinstance(settings.loss, nn.Module):
        made = _bound_to(model, settings.loss)
    else:
        made = settings.loss(model)
    if compares_drawn_pairs(loss_name, data):
        made = DeduplicatedPairsLoss(model, made)
    if settings.matryoshka_dims is not None:  # see Kusupati et al. (2022), https://arxiv.org/abs/2205.13147
        made = losses.MatryoshkaLoss(model, made, matryoshka_dims=_descending_dims(model, settings.matryoshka_dims))
    return made


def _check_parameters(settings: TrainingSettings, loss_name: str) -> None:
    if settings.matryoshka_dims is not None and loss_name in _OF_ALL_DIMENSIONS:
        raise ValueError(
            f"loss={loss_name!r} {_OF_ALL_DIMENSIONS[loss_name]}; pass matryoshka_dims=None with this loss."
        )
    if settings.lora_rank is not None and loss_name == "tsdae":
        raise ValueError(
            "loss='tsdae' shares all weights between the model and a decoder, so that it cannot train adapters alone; "
            "pass lora_rank=None, or loss='mlm'."
        )


def _descending_dims(model: SentenceTransformer, dims: Sequence[int]) -> list[int]:
    """Return the dimensions in descending order; the first is that of the whole vector."""
    own = model.get_embedding_dimension() or 0
    if max(dims) > own:
        raise ValueError(f"matryoshka_dims={tuple(dims)}: the vectors have only {own} dimensions.")
    return sorted({own, *map(int, dims)}, reverse=True)


def _make_named(loss_name: str, model: SentenceTransformer, data: TrainingData, part_size: int) -> nn.Module:
    objective = OBJECTIVES[loss_name]
    options: dict[str, Any] = dict(objective.options)
    if loss_name == "softmax" and data.classes is not None:
        options |= {"embedding_dimension": model.get_embedding_dimension(), "num_labels": len(data.classes)}
    if loss_name == "cached_multiple_negatives_ranking":
        options["mini_batch_size"] = min(part_size, _MOST_TEXTS_PER_PART)
    made: nn.Module = getattr(losses, str(objective.class_name))(model, **options)
    return made


def make_collator(loss_name: str, model: SentenceTransformer, data: TrainingData) -> SentenceTransformerDataCollator:
    """Make the collator, which turns examples into a batch of tokens."""
    kind = TextsOnceCollator if compares_drawn_pairs(loss_name, data) else SentenceTransformerDataCollator
    prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    return kind(preprocess_fn=model.preprocess, prompts=prompt)


@dataclass
class TextsOnceCollator(SentenceTransformerDataCollator):
    """Tokenises each distinct text of a batch of pairs once.

    The label of a pair becomes a row of three numbers: the positions of its two texts among the distinct texts, and the
    label.
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of pairs with labels."""
        left, right = TEXT_COLUMNS[:2]
        position: defaultdict[str, int] = defaultdict(lambda: len(position))
        rows = [[position[row[left]], position[row[right]], row["label"]] for row in features]
        batch: dict[str, Any] = super().__call__([{left: text} for text in position])
        return {**batch, "label": torch.tensor(rows)}


class DeduplicatedPairsLoss(nn.Module):
    """Encodes each distinct text of a batch of pairs once, and compares the pairs with another loss.

    Pairs drawn from few texts repeat many of them, and encoding takes most of the time.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Compute the loss of a batch from ``TextsOnceCollator``."""
        vectors = self.model(sentence_features[0])["sentence_embedding"]
        left, right = labels[:, 0].long(), labels[:, 1].long()
        compare: Any = self.loss.compute_loss_from_embeddings
        result: Tensor = compare([vectors[left], vectors[right]], labels[:, 2])
        return result


def _bound_to(model: SentenceTransformer, loss: nn.Module) -> nn.Module:
    """Copy a loss with ``model`` in place of its own model; a model that it only consults, such as a guide, stays."""
    own: dict[int, Any] = {}
    part: Any = loss
    while part is not None:  # a loss may wrap another one
        own |= {id(module): model for module in [getattr(part, "model", None)] if module is not None}
        part = getattr(part, "loss", None)
    bound: nn.Module = copy.deepcopy(loss, memo=own)
    return bound


def add_adapters(model: SentenceTransformer, rank: int) -> LoraModel:
    """Freeze the transformer of a model, and add low-rank adapters to its linear layers.

    Parameters
    ----------
    model : SentenceTransformer
        Changed in place.
    rank : int

    Returns
    -------
    LoraModel
        Its ``merge_and_unload`` adds the adapters to the weights and removes them, also in place.

    Raises
    ------
    ImportError
        If peft is not installed.
    ValueError
        If the model has no transformer.

    Notes
    -----
    LoRA: Hu et al. (2021), https://arxiv.org/abs/2106.09685. The scale is 2, which is common.
    """
    peft = require("peft", extra="train", needed_by="lora_rank")
    transformer = model.transformers_model
    if transformer is None:
        raise ValueError("lora_rank adds adapters to a transformer, and this model has none; pass lora_rank=None.")
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    adapters: LoraModel = peft.LoraModel(transformer, config, "default")
    return adapters
