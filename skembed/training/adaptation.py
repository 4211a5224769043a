"""Losses that adapt a model to texts without labels: "tsdae" and "mlm". Imports torch and transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
)

_DELETED = 0.6  # share of the tokens that TSDAE deletes, the best one in its paper
_MASKED = 0.15  # share of the tokens that BERT's pre-training hides
_READ_BY_HEAD = ("input_ids", "attention_mask", "token_type_ids")


def make_adaptation(loss_name: str, model: SentenceTransformer) -> nn.Module:
    """Make the loss that adapts a model to texts.

    Parameters
    ----------
    loss_name : {"tsdae", "mlm"}
    model : SentenceTransformer
        On any device.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If the model is of a kind that cannot be adapted so.
    """
    if not isinstance(model[0], Transformer) or model.transformers_model is None:
        raise ValueError(
            f"loss={loss_name!r} adapts a transformer, and the model begins with {type(model[0]).__name__}. Choose "
            "another model, or loss='multiple_negatives_ranking'."
        )
    return Denoising(model) if loss_name == "tsdae" else MaskedLanguage(model)


class Denoising(nn.Module):
    """Rebuilds texts from the vectors of what is left of them when tokens are deleted.

    The loss is sentence-transformers' own. Its decoder has the weights of the model, and new ones where the model has
    none: those that read the vector.

    Parameters
    ----------
    model : SentenceTransformer

    Notes
    -----
    TSDAE: Wang, Reimers & Gurevych (2021), https://arxiv.org/abs/2104.06979.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        network: Any = model.transformers_model
        dim, own_dim = model.get_embedding_dimension(), network.config.hidden_size
        if dim != own_dim:
            raise ValueError(
                f"loss='tsdae' rebuilds texts from vectors of {own_dim} dimensions, those of the transformer, and the "
                f"model's vectors have {dim}. Use loss='mlm', or another pooling."
            )
        if type(network.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ValueError(_no_class("tsdae", network, "decoder", "loss='mlm'"))
        with _saved(model):
            self.loss = DenoisingAutoEncoderLoss(model)
        if not _reads_vector(self.loss.decoder, own_dim):
            raise ValueError(_no_class("tsdae", network, "decoder that reads a vector", "loss='mlm'"))
        self.model = model

    def forward(self, sentence_features: Sequence[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        """Compute the loss of a batch of texts."""
        self.loss.decoder.train(self.model.training)  # the trainer tells only the model of a validation
        whole = sentence_features[0]
        n_prompt = int(torch.as_tensor(whole.get("prompt_length", 0)).flatten()[0])  # the pooling may leave it out
        stays = _is_special(self.model.tokenizer, whole["input_ids"]) | (whole["attention_mask"].cumsum(1) <= n_prompt)
        with _same_numbers_unless(self.model.training):
            damaged = delete_tokens(whole, stays, _DELETED)
        loss: Tensor = self.loss([damaged, whole], labels)
        return loss


class MaskedLanguage(nn.Module):
    """Guesses tokens that are hidden, as in BERT's pre-training.

    The head that guesses them has the model's table of tokens; its other weights are new.

    Parameters
    ----------
    model : SentenceTransformer

    Notes
    -----
    Devlin, Chang, Lee & Toutanova (2019), https://arxiv.org/abs/1810.04805. That going on with it on texts of one
    domain helps with tasks there: Gururangan et al. (2020), https://arxiv.org/abs/2004.10964.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        network, tokenizer = cast("PreTrainedModel", model.transformers_model), model.tokenizer
        if getattr(tokenizer, "mask_token_id", None) is None:
            raise ValueError(
                "loss='mlm' hides tokens, and the model's tokenizer has no mask token. Use loss='tsdae' or "
                "loss='multiple_negatives_ranking'."
            )
        if type(network.config) not in MODEL_FOR_MASKED_LM_MAPPING:
            others = "loss='tsdae' or loss='multiple_negatives_ranking'"
            raise ValueError(_no_class("mlm", network, "head that guesses tokens", others))
        self.model = model
        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=_MASKED)
        with _saved(model) as folder:
            self.head: Any = AutoModelForMaskedLM.from_pretrained(folder)
        setattr(self.head, self.head.base_model_prefix, network)
        self.head.tie_weights()

    def forward(self, sentence_features: Sequence[dict[str, Tensor]], labels: Tensor | None) -> Tensor:  # noqa: ARG002
        """Compute the loss of a batch of texts."""
        self.head.train(self.model.training)
        features = {name: value for name, value in sentence_features[0].items() if name in _READ_BY_HEAD}
        ids = features["input_ids"]
        with _same_numbers_unless(self.model.training):
            hidden, right = self._collator.torch_mask_tokens(
                ids.cpu().clone(), _is_special(self.model.tokenizer, ids).cpu()
            )
        guessed = self.head(**{**features, "input_ids": hidden.to(ids.device)}).logits
        right = right.to(ids.device)
        n_hidden = (right >= 0).sum().clamp(min=1)  # a batch of short texts may have none
        loss: Tensor = nn.functional.cross_entropy(guessed.flatten(0, 1), right.flatten(), reduction="sum") / n_hidden
        return loss


def delete_tokens(features: dict[str, Tensor], stays: Tensor, share: float) -> dict[str, Tensor]:
    """Delete tokens of texts at random; those that must stay do, and at least one other of each text.

    Parameters
    ----------
    features : dict of str to Tensor
        Of a batch of texts, padded on either side.
    stays : Tensor of bool, shape (n_texts, n_tokens)
        Which tokens must stay, e.g. special ones.
    share : float
        Expected share of the other tokens that is deleted.

    Returns
    -------
    dict of str to Tensor
        Padded on the right, to the length of the longest text.
    """
    is_token = features["attention_mask"].bool()
    chance = torch.rand(is_token.shape).to(is_token.device).masked_fill(stays | ~is_token, -1.0)
    is_kept = is_token & (stays | (chance >= share) | (chance == chance.amax(dim=1, keepdim=True)))
    order = (~is_kept).int().argsort(dim=1, stable=True)[:, : int(is_kept.sum(dim=1).max())]
    tensors = {name: value for name, value in features.items() if getattr(value, "shape", None) == is_token.shape}
    shortened = {name: value.gather(1, order) for name, value in tensors.items()}
    return {**features, **shortened, "attention_mask": is_kept.gather(1, order).to(features["attention_mask"].dtype)}


def _is_special(tokenizer: Any, ids: Tensor) -> Tensor:
    special = torch.tensor(tokenizer.all_special_ids, device=ids.device)
    return torch.isin(ids, special[special != (-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id)])


@contextmanager
def _saved(model: SentenceTransformer) -> Iterator[str]:
    """Save transformer and tokenizer to a folder, for classes that read them from one, and name it in the model."""
    network: Any = model.transformers_model
    named = network.config._name_or_path
    with TemporaryDirectory(prefix="skembed-training-") as folder:
        network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        network.config._name_or_path = folder
        try:
            yield folder
        finally:
            network.config._name_or_path = named


def _reads_vector(decoder: Any, dim: int) -> bool:
    """Return whether the output of a decoder depends on the vector that it is to read."""
    ids, vectors = torch.zeros(2, 1, dtype=torch.long), torch.stack([torch.ones(1, dim), torch.randn(1, dim)])
    with torch.no_grad():
        try:
            logits = decoder.cpu().eval()(input_ids=ids, encoder_hidden_states=vectors, use_cache=False)[0]
        except TypeError:  # it knows no such parameter
            return False
        finally:
            decoder.train()
    return not torch.allclose(logits[0], logits[1])


@contextmanager
def _same_numbers_unless(is_training: bool) -> Iterator[None]:
    """Draw the same random numbers for each validation, so that the losses of two epochs can be compared."""
    with torch.random.fork_rng(devices=[], enabled=not is_training):
        if not is_training:
            torch.default_generator.manual_seed(0)  # of the CPU, where they are drawn, and of no other device
        yield


def _no_class(loss_name: str, network: Any, what: str, others: str) -> str:
    kind = type(network).__name__
    return f"loss={loss_name!r} needs a {what}, and transformers has none for {kind}. Use another model, or {others}."
