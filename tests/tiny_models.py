"""Tiny random sentence-transformers models, made on the fly: every kind the engine must read, no downloads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    FunnelConfig,
    FunnelModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    GPT2Config,
    GPT2Model,
    LongT5Config,
    LongT5EncoderModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    RobertaConfig,
    RobertaModel,
)

HIDDEN = 32
LAYERS = 3
MAX_SEQ_LENGTH = 24

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "a parcel was sent to the wrong address last week",
    "sentence embeddings turn texts into vectors of numbers",
    "I cannot log in since the update of the app",
    "café naïve über résumé 0 1 2 3 4 5 6 7 8 9 . , ! ? < > : ; ( )",
] * 3


@cache
def _word_pieces() -> str:
    """A trained tokenizer. Once a session: no two trainings are the same, and equal models are converted only once."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    return core.to_str()


def make_bert(folder: Path, *tail: torch.nn.Module, pooling="mean", normalize=True, seed=0, include_prompt=True) -> str:
    """BERT with WordPiece: [CLS] text [SEP], padding on the right."""
    core = Tokenizer.from_str(_word_pieces())
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = BertTokenizerFast(tokenizer_object=core, vocab=core.get_vocab(), model_max_length=MAX_SEQ_LENGTH)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=400, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    return _save(folder, BertModel(config), tokenizer, pooling, normalize, include_prompt, *tail)


def make_roberta(folder: Path) -> str:
    """RoBERTa with byte-level BPE: positions start at 2, so 66 table entries are 64 positions."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core = _byte_level_bpe(special)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", model_max_length=MAX_SEQ_LENGTH,
    )  # fmt: skip
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=core.get_vocab_size(), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return _save(folder, RobertaModel(config), tokenizer, "mean", False, True)


def make_decoder(folder: Path, max_positions: int = 64, **config) -> str:
    """A causal model with rotary positions that pads on the left and pools the last token."""
    core = _byte_level_bpe(["<|pad|>", "<|end|>"])
    core.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>", padding_side="left",
        model_max_length=MAX_SEQ_LENGTH,
    )  # fmt: skip
    torch.manual_seed(2)
    qwen2 = Qwen2Config(
        vocab_size=core.get_vocab_size(), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=max_positions, pad_token_id=0, **config,
    )  # fmt: skip
    return _save(folder, Qwen2Model(qwen2), tokenizer, "lasttoken", True, True)


def make_gpt2(folder: Path) -> str:
    """A causal model with a learned position table and no special tokens: the empty text has no token at all."""
    core = _byte_level_bpe(["<pad>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", model_max_length=MAX_SEQ_LENGTH)
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=core.get_vocab_size(), n_embd=HIDDEN, n_layer=LAYERS, n_head=4, n_positions=32,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return _save(folder, GPT2Model(config), tokenizer, "mean", False, True)


def make_modernbert(folder: Path) -> str:
    """ModernBERT: rotary positions, and in two of three layers a token attends to its neighbours only."""
    tokenizer = _bos_and_eos_tokenizer("right")
    torch.manual_seed(7)
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, local_attention=8, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    return _save(folder, ModernBertModel(config), tokenizer, "mean", True, True)


def make_gemma(folder: Path) -> str:
    """As EmbeddingGemma: a decoder that attends to both sides, to neighbours only in some layers."""
    tokenizer = _bos_and_eos_tokenizer("left")
    torch.manual_seed(8)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=64, sliding_window=6,
        use_bidirectional_attention=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    )  # fmt: skip
    return _save(folder, Gemma3TextModel(config), tokenizer, "mean", True, True)


def make_longt5(folder: Path) -> str:
    """LongT5, which cuts a text into blocks: how many they are is decided by code, not by tensors."""
    tokenizer = _bos_and_eos_tokenizer("right")
    torch.manual_seed(9)
    config = LongT5Config(
        vocab_size=len(tokenizer), d_model=HIDDEN, d_kv=8, d_ff=64, num_layers=LAYERS, num_heads=4, local_radius=3,
        pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return _save(folder, LongT5EncoderModel(config), tokenizer, "mean", True, True)


def make_dense(folder: Path) -> str:
    """BERT whose cls and mean vectors go together through a Dense layer, then to unit length."""
    torch.manual_seed(4)
    dense = Dense(2 * HIDDEN, 16, activation_function=torch.nn.Tanh())
    return make_bert(folder, dense, pooling=("cls", "mean"), seed=4)


def make_dense_raw(folder: Path) -> str:
    """BERT with mean pooling and a Dense layer, not normalised."""
    torch.manual_seed(5)
    return make_bert(folder, Dense(HIDDEN, 16), normalize=False, seed=5)


def make_static(folder: Path) -> str:
    """A StaticEmbedding: no transformer, no Pooling module, no limit."""
    torch.manual_seed(6)
    core = _byte_level_bpe(["<pad>"])
    weights = torch.randn(core.get_vocab_size(), HIDDEN)
    SentenceTransformer(modules=[StaticEmbedding(core, embedding_weights=weights)], device="cpu").save(str(folder))
    return str(folder)


def make_router(folder: Path) -> str:
    """Two BERTs, one for queries and one for documents, which is the default; prompts for both."""
    routes = {"query": _route(folder, "query", seed=7), "document": _route(folder, "document", seed=8)}
    router = Router(routes, default_route="document")
    return _save_modules(folder, router, Normalize(), prompts={"query": "search for: ", "document": "a text: "})


def make_router_without_default(folder: Path) -> str:
    """The same, but a text without a task has no route; no prompts."""
    routes = {"query": _route(folder, "query", seed=7), "document": _route(folder, "document", seed=8)}
    return _save_modules(folder, Router(routes, allow_empty_key=False), Normalize())


def make_router_static(folder: Path) -> str:
    """A table of vectors for queries, BERT for documents."""
    torch.manual_seed(9)
    core = _byte_level_bpe(["<pad>"])
    table = StaticEmbedding(core, embedding_weights=torch.randn(core.get_vocab_size(), HIDDEN))
    return _save_modules(folder, Router.for_query_document([table], _route(folder, "document", seed=8)), Normalize())


def make_router_dense(folder: Path) -> str:
    """One BERT, and after it a Dense layer for queries and another one, of more dimensions, for documents."""
    modules = _route(folder, "both", seed=9)
    return _save_modules(folder, *modules, Router.for_query_document([Dense(HIDDEN, 16)], [Dense(HIDDEN, 20)]))


def make_lengths(folder: Path) -> str:
    """BERT that reads fewer tokens of a query, and more of a document, than of another text."""
    model = SentenceTransformer(make_bert(folder.with_name(folder.name + "-same")), device="cpu")
    model[0].query_length, model[0].document_length = 6, 40
    model.save(str(folder), create_model_card=False)
    return str(folder)


def make_bart(folder: Path) -> str:
    """An encoder and a decoder, whose layers' hidden states do not come in one row."""
    core = _byte_level_bpe(["<s>", "<pad>", "</s>"])
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", pad_token="<pad>", eos_token="</s>", model_max_length=MAX_SEQ_LENGTH
    )
    torch.manual_seed(10)
    config = BartConfig(
        vocab_size=core.get_vocab_size(), d_model=HIDDEN, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_position_embeddings=64, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    return _save(folder, BartModel(config), tokenizer, "mean", False, True)


def make_funnel(folder: Path) -> str:
    """A transformer that shortens its rows on the way, so that hidden states differ in length."""
    plain = SentenceTransformer(make_bert(folder.with_name(folder.name + "-same")), device="cpu")
    torch.manual_seed(11)
    config = FunnelConfig(
        vocab_size=400, block_sizes=[1, 1], num_decoder_layers=1, d_model=HIDDEN, n_head=4, d_head=8, d_inner=64
    )
    return _save(folder, FunnelModel(config), plain.tokenizer, "mean", False, True)


def _route(folder: Path, name: str, seed: int) -> list[torch.nn.Module]:
    """Return the modules of a BERT that differs clearly from one of another seed."""
    model = SentenceTransformer(make_bert(folder.with_name(f"{folder.name}-{name}"), seed=seed), device="cpu")
    return [model[0], model[1]]


def _save_modules(folder: Path, *modules: torch.nn.Module, prompts: dict[str, str] | None = None) -> str:
    SentenceTransformer(modules=list(modules), prompts=prompts, device="cpu").save(str(folder), create_model_card=False)
    return str(folder)


def _bos_and_eos_tokenizer(padding_side: str) -> PreTrainedTokenizerFast:
    core = _byte_level_bpe(["<pad>", "<bos>", "<eos>"])
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side=padding_side,
        model_max_length=MAX_SEQ_LENGTH,
    )  # fmt: skip


def _byte_level_bpe(special: list[str]) -> Tokenizer:
    return Tokenizer.from_str(_byte_pairs(tuple(special)))


@cache
def _byte_pairs(special: tuple[str, ...]) -> str:
    """As for _word_pieces."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    core.train_from_iterator(CORPUS, trainer)
    return core.to_str()


def _save(folder, network, tokenizer, pooling, normalize, include_prompt, *tail) -> str:
    """Save network and tokenizer, and read them back as the first module of a sentence-transformers model."""
    plain = folder.with_name(folder.name + "-plain")
    network.eval().save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    modules = [Transformer(str(plain), max_seq_length=MAX_SEQ_LENGTH), Pooling(HIDDEN, pooling, include_prompt), *tail]
    if normalize:
        modules.append(Normalize())
    prompts = {"query": "search for: ", "document": ""}
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder), create_model_card=False)
    return str(folder)


MAKERS = {
    "bert": make_bert,
    "roberta": make_roberta,
    "decoder": make_decoder,
    "gpt2": make_gpt2,
    "modernbert": make_modernbert,
    "gemma": make_gemma,
    "longt5": make_longt5,
    "dense": make_dense,
    "dense_raw": make_dense_raw,
    "static": make_static,
    "router": make_router,
    "router_without_default": make_router_without_default,
    "router_static": make_router_static,
    "router_dense": make_router_dense,
    "lengths": make_lengths,
    "bart": make_bart,
    "funnel": make_funnel,
}
