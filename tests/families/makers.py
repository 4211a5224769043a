"""Tiny random models of every family that people embed texts with, each saved as a folder.

``FAMILIES`` maps a name to a function that fills a folder. Architectures are transformers' own classes with a few dozen
dimensions, vocabularies hold the words of a handful of sentences, and weights are drawn large enough for every layer to
shape the vectors. Imports torch, transformers and sentence-transformers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer import modules as st
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

HIDDEN, LAYERS, HEADS, WIDE, MAX_SEQ_LENGTH = 32, 2, 4, 64, 48

SENTENCES = [
    "Where is my parcel? It should have come on Friday, and the courier never rang.",
    "Vectors of numbers stand for sentences, so that a cosine can compare them.",
    "My password was refused twice since the last update, please unlock the account!",
    "Share prices rose by 3.5 % on Tuesday; bonds fell (again) to 0.98 < 1 > 0.",
    "Die Sendung kam beschädigt an. Où est mon colis, s'il vous plaît? 東京で雨が降る。",
    "query: document: passage: Instruct: answer the question title: none text: 0 1 2 4 6 7",
]

Maker = Callable[[Path], None]
SIZES = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": WIDE}
DECODER_SIZES = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}
T5_SIZES = {"d_model": HIDDEN, "d_kv": 8, "d_ff": WIDE, "num_layers": LAYERS, "num_heads": HEADS, "eos_token_id": 1}
BART_LIKE = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
INSTRUCTION = {"query": "Instruct: find passages that answer the question\nQuery:", "document": ""}


# Tokenizers -----------------------------------------------------------------------------------------------------------


def known_words() -> list[str]:
    return sorted({word.strip(".,!?;:()'").lower() for sentence in SENTENCES for word in sentence.split()} - {""})


def _letters() -> list[str]:
    return sorted({letter for sentence in SENTENCES for letter in sentence.lower() + sentence} - {" "})


def _merges(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return tokens and merges that build each word from its letters, from left to right."""
    merges = dict.fromkeys((word[:end], word[end]) for word in words for end in range(1, len(word)))
    return list(dict.fromkeys(left + right for left, right in merges)), list(merges)


def word_pieces(special: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), unknown="[UNK]") -> Tokenizer:
    letters = _letters()
    tokens = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *known_words(), "##s", "##ing"])
    core = Tokenizer(models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token=unknown))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return core


def byte_pairs(special: Sequence[str]) -> Tokenizer:
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = [bytes_of.pre_tokenize_str(f" {word}")[0][0] for word in known_words() if word.isalpha()]
    made, merges = _merges(words)
    tokens = dict.fromkeys([*special, *sorted(bytes_of.alphabet()), *made])
    core = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    core.pre_tokenizer, core.decoder = bytes_of, decoders.ByteLevel()
    core.add_special_tokens(list(special))
    return core


def sentence_pieces(special: Sequence[str]) -> Tokenizer:
    """Byte pairs over text whose spaces are underlined, as SentencePiece's are."""
    made, merges = _merges([f"▁{word}" for word in known_words()])
    tokens = dict.fromkeys([*special, "▁", *_letters(), *made])
    vocab = {token: number for number, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.add_special_tokens(list(special))
    return core


def unigrams(special: Sequence[str]) -> list[tuple[str, float]]:
    pieces = dict.fromkeys(["▁", *_letters(), *(f"▁{word}" for word in known_words())])
    return [(token, 0.0) for token in special] + [(piece, -5.0 - len(piece) % 3) for piece in pieces]


def vocabulary(core: Tokenizer) -> dict[str, Any]:
    """What a tokenizer class of transformers is made of."""
    model = json.loads(core.to_str())["model"]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model.get("merges", [])]
    return {"vocab": model["vocab"], **({"merges": merges} if merges else {})}


def bert_tokenizer(kind: str = "BertTokenizer", **kwargs) -> Any:
    return getattr(transformers, kind)(**vocabulary(word_pieces()), **kwargs)


def roberta_tokenizer(kind: str = "RobertaTokenizer") -> Any:
    return getattr(transformers, kind)(**vocabulary(byte_pairs(BART_LIKE)))


def unigram_tokenizer(kind: str, special: Sequence[str], **kwargs) -> Any:
    return getattr(transformers, kind)(vocab=unigrams(special), **kwargs)


def albert_tokenizer() -> Any:
    return unigram_tokenizer("AlbertTokenizer", ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])


def xlmr_tokenizer(kind: str = "XLMRobertaTokenizer") -> Any:
    return unigram_tokenizer(kind, BART_LIKE)


def t5_tokenizer() -> Any:
    return unigram_tokenizer("T5Tokenizer", ["<pad>", "</s>", "<unk>"], extra_ids=10)


def big_bird_tokenizer() -> Any:
    return unigram_tokenizer("BigBirdTokenizer", ["<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])


def bracketed_tokenizer() -> Any:
    """Byte pairs between [CLS] and [SEP], as ModernBERT reads them."""
    core = byte_pairs(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def decoder_tokenizer(side: str = "left", *, ends: bool = True, pads: bool = True, chat: bool = False) -> Any:
    core = byte_pairs(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    if ends:
        end = [("<|endoftext|>", 0)]
        core.post_processor = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=end)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|endoftext|>" if pads else None, padding_side=side
    )
    if chat:
        tokenizer.chat_template = (
            "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"
        )
    return tokenizer


def gemma_tokenizer() -> Any:
    core = sentence_pieces(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=transformers.GemmaTokenizer(**vocabulary(core)).backend_tokenizer, padding_side="left",
        bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip
    around = [(token, core.token_to_id(token)) for token in ("<bos>", "<eos>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=around
    )
    return tokenizer


def sonar_tokenizer() -> Any:
    core = sentence_pieces(["<s>", "<pad>", "</s>", "<unk>", "__eng__"])
    core.post_processor = processors.TemplateProcessing(
        single="__eng__ $A </s>", special_tokens=[("__eng__", 4), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def added_tokens_tokenizer() -> Any:
    core = word_pieces()
    core.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer = transformers.BertTokenizer(**vocabulary(core), do_lower_case=False)
    tokenizer.add_tokens(["parcelnet", "<ent>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ROW]"]})
    return tokenizer


# Networks and folders -------------------------------------------------------------------------------------------------


def network(kind: str, tokenizer: Any, scale: float = 0.5, **config) -> Any:
    """A transformer ``<kind>Model`` with a ``<kind>Config``, and weights that matter."""
    stem = kind.removesuffix("Encoder")
    settings = getattr(transformers, f"{stem}Config")(vocab_size=len(tokenizer), **config)
    return with_large_weights(getattr(transformers, f"{kind}Model")(settings), scale)


def with_large_weights(model: nn.Module, scale: float = 0.5) -> Any:
    generator = torch.Generator().manual_seed(11)
    for name, weights in model.named_parameters():
        if weights.dim() > 1:
            spread = scale if "embed" in name.lower() or "wte" in name else scale / 2
            weights.data = spread * torch.randn(weights.shape, generator=generator)
    return model.eval()


def save(
    folder: Path,
    model: Any,
    tokenizer: Any,
    *tail: nn.Module,
    between: Sequence[nn.Module] = (),
    pooling: str | tuple[str, ...] = "mean",
    pooled_dim: int = HIDDEN,
    normalize: bool = False,
    include_prompt: bool = True,
    max_seq_length: int | None = MAX_SEQ_LENGTH,
    prompts: dict[str, str] | None = None,
    edit: Callable[[Path], None] | None = None,
    transformer: dict[str, Any] | None = None,
    **settings,
) -> None:
    """Save transformer, pooling and what follows as a sentence-transformers folder; then edit its files."""
    first = read_transformer(folder, model, tokenizer, max_seq_length, **(transformer or {}))
    modules = [first, *between, st.Pooling(pooled_dim, pooling, include_prompt), *tail]
    modules += [st.Normalize()] if normalize else []
    prompts = {"query": "query: ", "document": "passage: "} if prompts is None else prompts
    save_modules(folder, *modules, prompts=prompts, **settings)
    if edit is not None:
        edit(folder)


def read_transformer(folder: Path, model: Any, tokenizer: Any, max_seq_length: int | None, **kwargs) -> st.Transformer:
    """Write network and tokenizer as plain transformers files, and read them back as a module."""
    plain = folder.with_name(f"{folder.name}-plain")
    model.eval().save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    limit = {} if max_seq_length is None else {"max_seq_length": max_seq_length}
    module = st.Transformer(str(plain), **limit, **kwargs)
    shutil.rmtree(plain)
    return module


def save_modules(folder: Path, *modules: nn.Module, **settings) -> None:
    SentenceTransformer(modules=list(modules), device="cpu", **settings).save(str(folder), create_model_card=False)


def bert(tokenizer: Any = None, **config) -> tuple[Any, Any]:
    tokenizer = tokenizer or bert_tokenizer()
    return network("Bert", tokenizer, **{"max_position_embeddings": 64, **SIZES, **config}), tokenizer


def small_bert(seed: int) -> Any:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(bert_tokenizer()), max_position_embeddings=64, initializer_range=0.3, **SIZES
    )
    return transformers.BertModel(config)


def encoder(kind: str, tokenizer: Callable[[], Any], config: dict[str, Any], scale: float = 0.5, **saving) -> Maker:
    """A maker of a transformer with its tokenizer, mean pooling and whatever ``saving`` says."""

    def make(folder: Path) -> None:
        ready = tokenizer()
        save(folder, network(kind, ready, scale, **config), ready, **saving)

    return make


def edited_bert(edit: Callable[[Path], None], **saving) -> Maker:
    return lambda folder: save(folder, *bert(), edit=edit, **saving)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(content) or content), encoding="utf-8")


# Makers that a table cannot hold --------------------------------------------------------------------------------------


def make_sonar(folder: Path) -> None:
    tokenizer = sonar_tokenizer()
    config = transformers.M2M100Config(
        vocab_size=len(tokenizer), d_model=HIDDEN, encoder_layers=LAYERS, decoder_layers=3,
        encoder_attention_heads=HEADS, encoder_ffn_dim=WIDE, max_position_embeddings=64, pad_token_id=1,
        bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    save(folder, with_large_weights(M2M100Encoder(config)), tokenizer)


def make_canine(folder: Path) -> None:
    config = transformers.CanineConfig(
        max_position_embeddings=256, num_hash_buckets=64, num_hash_functions=4, local_transformer_stride=16,
        downsampling_rate=4, upsampling_kernel_size=4, **SIZES,
    )  # fmt: skip
    model = with_large_weights(transformers.CanineModel(config))
    save(folder, model, transformers.CanineTokenizer(), max_seq_length=128)


def make_byt5(folder: Path) -> None:
    model = transformers.T5EncoderModel(transformers.T5Config(vocab_size=400, pad_token_id=0, **T5_SIZES))
    save(folder, with_large_weights(model), transformers.ByT5Tokenizer())


def make_t5gemma(folder: Path) -> None:
    tokenizer = gemma_tokenizer()
    part = {
        **DECODER_SIZES, "vocab_size": len(tokenizer) + 8, "head_dim": 8, "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    config = transformers.T5GemmaConfig(encoder=part, decoder=part, pad_token_id=0, vocab_size=len(tokenizer) + 8)
    config.is_encoder_decoder = False
    save(folder, with_large_weights(transformers.T5GemmaEncoderModel(config)), tokenizer)


def make_gemma3(folder: Path, *tail: nn.Module, is_causal: bool, **saving) -> None:
    tokenizer = gemma_tokenizer()
    config = transformers.Gemma3TextConfig(
        vocab_size=len(tokenizer) + 8, head_dim=8, sliding_window=12, use_bidirectional_attention=not is_causal,
        layer_types=["sliding_attention", "full_attention"], **DECODER_SIZES,
    )  # fmt: skip
    save(folder, with_large_weights(transformers.Gemma3TextModel(config)), tokenizer, *tail, **saving)


def make_embedding_gemma(folder: Path) -> None:
    torch.manual_seed(1)
    wide = st.Dense(HIDDEN, 64, bias=False, activation_function=nn.Identity())
    narrow = st.Dense(64, 24, bias=False, activation_function=nn.Identity())
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: ", "STS": "task: alike: "}
    make_gemma3(folder, wide, narrow, is_causal=False, normalize=True, prompts=prompts)


def make_bidirectional(kind: str, folder: Path) -> None:
    """A decoder that attends both ways, as LLM2Vec and NV-Embed make them."""
    tokenizer = decoder_tokenizer()
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **DECODER_SIZES)
    config.is_causal = False
    save(folder, with_large_weights(getattr(transformers, f"{kind}Model")(config)), tokenizer)


def make_t5_with_dense(folder: Path) -> None:
    tokenizer = t5_tokenizer()
    torch.manual_seed(2)
    dense = st.Dense(HIDDEN, 24, bias=False, activation_function=nn.Identity())
    config = {**T5_SIZES, "num_decoder_layers": 4, "pad_token_id": 0}
    save(folder, network("T5Encoder", tokenizer, **config), tokenizer, dense, normalize=True)


def make_static(folder: Path, *, half: bool = False, **settings) -> None:
    torch.manual_seed(6)
    core = word_pieces()
    weights = torch.randn(core.get_vocab_size(), HIDDEN)
    tail = [] if half else [st.Normalize()]
    save_modules(folder, st.StaticEmbedding(core, weights.half() if half else weights), *tail, **settings)


def word_embeddings() -> st.WordEmbeddings:
    torch.manual_seed(8)
    words = known_words()
    tokenizer = WhitespaceTokenizer(words, do_lower_case=True)
    return st.WordEmbeddings(tokenizer, torch.randn(len(words), HIDDEN).numpy(), max_seq_length=20)


def make_word_embeddings(folder: Path) -> None:
    save_modules(folder, word_embeddings(), st.Pooling(HIDDEN, "mean"))


def make_cnn(folder: Path) -> None:
    words = word_embeddings()
    cnn = st.CNN(in_word_embedding_dimension=HIDDEN, out_channels=8, kernel_sizes=[1, 3, 5])
    save_modules(folder, words, cnn, st.Pooling(cnn.get_embedding_dimension(), "max"))


def make_lstm(folder: Path) -> None:
    words = word_embeddings()
    lstm = st.LSTM(word_embedding_dimension=HIDDEN, hidden_dim=12)
    save_modules(folder, words, lstm, st.Pooling(lstm.get_embedding_dimension(), "mean"))


def word_weights() -> dict[str, float]:
    return {word: 0.2 + number % 5 for number, word in enumerate(known_words())}


def make_word_weights(folder: Path) -> None:
    words = word_embeddings()
    weights = st.WordWeights(vocab=known_words(), word_weights=word_weights())
    save_modules(folder, words, weights, st.Pooling(HIDDEN, "mean"), st.Dense(HIDDEN, 8))


def make_bag_of_words(folder: Path) -> None:
    bag = st.BoW(vocab=known_words(), word_weights=word_weights())
    torch.manual_seed(3)
    save_modules(folder, bag, st.Dense(bag.get_embedding_dimension(), 16))


def make_weighted_layers(folder: Path) -> None:
    layers = st.WeightedLayerPooling(HIDDEN, num_hidden_layers=LAYERS, layer_start=0)
    hidden = {"config_kwargs": {"output_hidden_states": True}}
    save(folder, *bert(output_hidden_states=True), between=[layers], transformer=hidden, prompts={})


def make_mixed_tail(folder: Path) -> None:
    torch.manual_seed(9)
    tail = [
        st.LayerNorm(2 * HIDDEN),
        st.Dropout(0.3),
        st.Dense(2 * HIDDEN, 24, activation_function=nn.ReLU()),
        st.Normalize(),
        st.Dense(24, 12, bias=False, activation_function=nn.GELU()),
    ]
    save(folder, *bert(), *tail, pooling=("cls", "max"))


def make_residual_tail(folder: Path) -> None:
    torch.manual_seed(9)
    save(folder, *bert(), st.Dense(HIDDEN, HIDDEN, activation_function=nn.SiLU(), use_residual=True))


def make_dense_on_tokens(folder: Path) -> None:
    torch.manual_seed(9)
    dense = st.Dense(HIDDEN, 16, module_input_name="token_embeddings")
    save(folder, *bert(), between=[dense], pooled_dim=16, normalize=True, prompts={})


def make_in_precision(dtype: torch.dtype, folder: Path) -> None:
    model, tokenizer = bert()
    save(folder, model.to(dtype), tokenizer, normalize=True)


def make_peft(folder: Path) -> None:
    import peft

    model, tokenizer = bert()
    plain = folder.with_name(f"{folder.name}-base")  # stays: an adapter's folder names the model that it changes
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    modules = [st.Transformer(str(plain), max_seq_length=MAX_SEQ_LENGTH), st.Pooling(HIDDEN, "mean"), st.Normalize()]
    tuned = SentenceTransformer(modules=modules, device="cpu")
    torch.manual_seed(4)
    low_rank = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], init_lora_weights=False)
    tuned.add_adapter(low_rank)
    tuned.save(str(folder), create_model_card=False)


def make_router(default_route: str | None, folder: Path) -> None:
    def route(seed: int) -> list[nn.Module]:
        return [read_transformer(folder, small_bert(seed), bert_tokenizer(), MAX_SEQ_LENGTH), st.Pooling(HIDDEN)]

    router = st.Router.for_query_document(
        query_modules=route(1), document_modules=route(2), default_route=default_route
    )
    save_modules(folder, router, st.Normalize())


def make_router_with_static_queries(folder: Path) -> None:
    document = read_transformer(folder, small_bert(2), bert_tokenizer(), MAX_SEQ_LENGTH)
    core = word_pieces()
    router = st.Router.for_query_document(
        query_modules=[st.StaticEmbedding(core, torch.randn(core.get_vocab_size(), HIDDEN))],
        document_modules=[document, st.Pooling(HIDDEN)],
        default_route="document",
    )
    save_modules(folder, router, st.Normalize(), prompts={"query": "query: ", "document": "passage: "})


def make_router_at_the_end(folder: Path) -> None:
    """One transformer for all, and a Dense layer for each route behind it."""
    shared = read_transformer(folder, *bert(), MAX_SEQ_LENGTH)
    torch.manual_seed(4)
    router = st.Router.for_query_document(
        query_modules=[st.Dense(HIDDEN, 16)], document_modules=[st.Dense(HIDDEN, 16)], default_route="document"
    )
    save_modules(folder, shared, st.Pooling(HIDDEN), router)


def make_lengths_by_task(folder: Path) -> None:
    save(folder, *bert(), transformer={"query_length": 8, "document_length": 40})


def make_clip(folder: Path) -> None:
    core = transformers.CLIPTokenizer(**vocabulary(byte_pairs(["<|startoftext|>", "<|endoftext|>"])))
    core.model_max_length = 32
    text = {
        **SIZES, "vocab_size": len(core), "max_position_embeddings": 32, "bos_token_id": core.bos_token_id,
        "eos_token_id": core.eos_token_id, "pad_token_id": core.pad_token_id,
    }  # fmt: skip
    vision = {**SIZES, "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = transformers.CLIPProcessor(images, core)
    model = with_large_weights(transformers.CLIPModel(config))
    save_modules(folder, read_transformer(folder, model, processor, None))


def make_sparse(folder: Path) -> None:
    tokenizer = bert_tokenizer()
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **SIZES)
    model = transformers.BertForMaskedLM(config)
    transformer = read_transformer(folder, model, tokenizer, MAX_SEQ_LENGTH, transformer_task="fill-mask")
    SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu").save(str(folder), create_model_card=False)


def make_plain(folder: Path) -> None:
    """A folder of transformers alone, which sentence-transformers reads with mean pooling."""
    model, tokenizer = bert()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_plain_classifier(folder: Path) -> None:
    tokenizer = bert_tokenizer()
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, num_labels=1, **SIZES)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_from_plain(kind: type, make: Maker, folder: Path) -> None:
    plain = folder.with_name(f"{folder.name}-plain")
    make(plain)
    kind(str(plain), device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(plain)


# Edits of folders -----------------------------------------------------------------------------------------------------


def forget_limits(folder: Path) -> None:
    edit_json(folder / "sentence_bert_config.json", lambda config: config.pop("max_seq_length", None) and config)
    edit_json(folder / "tokenizer_config.json", lambda config: config.pop("model_max_length", None) and config)


def lower_case_in_configuration(folder: Path) -> None:
    edit_json(folder / "sentence_bert_config.json", lambda config: {**config, "do_lower_case": True})


def write_old_module_configuration(folder: Path) -> None:
    old = {"max_seq_length": MAX_SEQ_LENGTH, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(old), encoding="utf-8")


def write_everything_as_version_2(folder: Path) -> None:
    modes = {f"pooling_mode_{mode}_tokens": mode == "mean" for mode in ("mean", "max", "mean_sqrt_len")}
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": True, **modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    edit_json(
        folder / "modules.json",
        lambda modules: [
            {**module, "type": f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"}
            for module in modules
        ],
    )
    write_old_module_configuration(folder)
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"__version__": versions}), encoding="utf-8")


def keep_weights_as_pytorch_model(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def keep_weights_in_shards(folder: Path) -> None:
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")


def add_module_of_own_code(folder: Path) -> None:
    code = (
        "from sentence_transformers.sentence_transformer.modules import Normalize\n\n\n"
        "class Doubled(Normalize):\n"
        "    def forward(self, features, **kwargs):\n"
        "        features['sentence_embedding'] = features['sentence_embedding'] * 2\n"
        "        return features\n"
    )
    (folder / "doubled.py").write_text(code, encoding="utf-8")
    (folder / "2_Doubled").mkdir()
    (folder / "2_Doubled" / "config.json").write_text("{}", encoding="utf-8")
    own = {"idx": 2, "name": "doubled", "path": "2_Doubled", "type": "doubled.Doubled"}
    edit_json(folder / "modules.json", lambda modules: [*modules, own])


def name_architecture_of_own_code(folder: Path) -> None:
    code = (
        "from transformers import BertConfig, BertModel\n\n\n"
        "class OwnConfig(BertConfig):\n    model_type = 'own_bert'\n\n\n"
        "class OwnModel(BertModel):\n"
        "    config_class = OwnConfig\n\n"
        "    def forward(self, *args, **kwargs):\n"
        "        output = super().forward(*args, **kwargs)\n"
        "        output['last_hidden_state'] = output['last_hidden_state'] * 2\n"
        "        return output\n"
    )
    (folder / "modeling_own.py").write_text(code, encoding="utf-8")
    classes = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    edit_json(folder / "config.json", lambda config: {**config, "model_type": "own_bert", "auto_map": classes})


# The table ------------------------------------------------------------------------------------------------------------

_ROBERTA = {"max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, **SIZES}
_DEBERTA = {
    "max_position_embeddings": 64, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pad_token_id": 0,
    "position_biased_input": False, "type_vocab_size": 0, **SIZES,
}  # fmt: skip
_GPT2 = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 64} | dict.fromkeys(
    ("bos_token_id", "eos_token_id", "pad_token_id"), 0
)
_LFM2 = {**DECODER_SIZES, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8}
_T5 = {**T5_SIZES, "pad_token_id": 0}
_right, _left = partial(decoder_tokenizer, "right"), decoder_tokenizer
_endless = partial(decoder_tokenizer, "right", ends=False)
_QWEN3 = {**DECODER_SIZES, "head_dim": 8}
_last = {"pooling": "lasttoken", "normalize": True}

FAMILIES: dict[str, Maker] = {
    # Encoders
    "bert": lambda folder: save(folder, *bert(), normalize=True),
    "distilbert": encoder(
        "DistilBert", partial(bert_tokenizer, "DistilBertTokenizer"),
        {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": WIDE, "max_position_embeddings": 64},
    ),
    "albert": encoder(
        "Albert", albert_tokenizer, {"embedding_size": 16, "max_position_embeddings": 64, "pad_token_id": 0, **SIZES}
    ),
    "electra": encoder(
        "Electra", partial(bert_tokenizer, "ElectraTokenizer"),
        {"embedding_size": 16, "max_position_embeddings": 64, **SIZES}, pooling="cls",
    ),
    "roberta": encoder("Roberta", roberta_tokenizer, _ROBERTA, normalize=True),
    "xlm_roberta": encoder("XLMRoberta", xlmr_tokenizer, _ROBERTA, normalize=True),
    "xlm_roberta_xl": encoder("XLMRobertaXL", xlmr_tokenizer, _ROBERTA),
    "camembert": encoder("Camembert", partial(xlmr_tokenizer, "CamembertTokenizer"), _ROBERTA),
    "mpnet": encoder(
        "MPNet", lambda: transformers.MPNetTokenizer(
            **vocabulary(word_pieces(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]))
        ), _ROBERTA, normalize=True,
    ),
    "deberta": encoder(
        "Deberta", lambda: transformers.DebertaTokenizer(
            **vocabulary(byte_pairs(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]))
        ), _DEBERTA,
    ),
    "deberta_v2": encoder(
        "DebertaV2", partial(
            unigram_tokenizer, "DebertaV2Tokenizer", ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], unk_id=3
        ), {**_DEBERTA, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True},
    ),
    "modernbert": encoder(
        "ModernBert", bracketed_tokenizer,
        {**SIZES, "num_hidden_layers": 3, "max_position_embeddings": 512, "local_attention": 8,
         "global_attn_every_n_layers": 2, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3,
         "bos_token_id": 2, "eos_token_id": 3},
    ),
    "nomic_bert": encoder(
        "NomicBert", bert_tokenizer, {"max_position_embeddings": 128, "pad_token_id": 0, **SIZES},
        prompts={"query": "search_query: ", "document": "search_document: "},
    ),
    "gte": encoder("Gte", bert_tokenizer, {"max_position_embeddings": 128, "pad_token_id": 0, **SIZES}, pooling="cls"),
    "eurobert": encoder(
        "EuroBert", bracketed_tokenizer, {**DECODER_SIZES, "bos_token_id": 2, "eos_token_id": 3}
    ),
    "jina_v3": encoder(
        "JinaEmbeddingsV3", xlmr_tokenizer, {"max_position_embeddings": 128, "pad_token_id": 1, **SIZES}, normalize=True
    ),
    "roformer": encoder(
        "RoFormer", bert_tokenizer, {"embedding_size": HIDDEN, "max_position_embeddings": 64, **SIZES}
    ),
    "ernie": encoder("Ernie", bert_tokenizer, {"max_position_embeddings": 64, "use_task_id": True, **SIZES}),
    "rembert": encoder(
        "RemBert", albert_tokenizer,
        {"input_embedding_size": 16, "output_embedding_size": 16, "max_position_embeddings": 64, "pad_token_id": 0,
         **SIZES},
    ),
    "mobilebert": encoder(
        "MobileBert", bert_tokenizer,
        {"embedding_size": 16, "intra_bottleneck_size": 16, "max_position_embeddings": 64, **SIZES}, 0.1,
    ),
    "squeezebert": encoder(
        "SqueezeBert", bert_tokenizer,
        {"embedding_size": HIDDEN, "max_position_embeddings": 64, "post_attention_groups": 1, **SIZES}
        | {f"{part}_groups": 2 for part in ("q", "k", "v", "intermediate", "output")},
    ),
    "fnet": encoder(
        "FNet", bert_tokenizer,
        {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "intermediate_size": WIDE, "max_position_embeddings": 64,
         "type_vocab_size": 2},
    ),
    "ibert": encoder("IBert", roberta_tokenizer, _ROBERTA),
    "nystromformer": encoder(
        "Nystromformer", bert_tokenizer,
        {"max_position_embeddings": 64, "segment_means_seq_len": 64, "num_landmarks": 64, **SIZES},
    ),
    "longformer": encoder(
        "Longformer", partial(roberta_tokenizer, "LongformerTokenizer"),
        {**_ROBERTA, "max_position_embeddings": 130, "attention_window": [8, 8], "sep_token_id": 2},
    ),
    "bigbird_full": encoder(
        "BigBird", big_bird_tokenizer,
        {"max_position_embeddings": 128, "attention_type": "original_full", "pad_token_id": 0, **SIZES},
    ),
    "bigbird_sparse": encoder(
        "BigBird", big_bird_tokenizer,
        {"max_position_embeddings": 256, "attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1,
         "pad_token_id": 0, **SIZES}, max_seq_length=128,
    ),
    "funnel": encoder(
        "Funnel", lambda: transformers.FunnelTokenizer(
            **vocabulary(word_pieces(["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"], "<unk>"))
        ), {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": HIDDEN, "n_head": HEADS, "d_head": 8,
            "d_inner": WIDE, "max_position_embeddings": 64, "pad_token_id": 0},
    ),
    "xlnet": encoder(
        "XLNet", partial(
            unigram_tokenizer, "XLNetTokenizer",
            ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"],
        ), {"d_model": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "d_inner": WIDE, "pad_token_id": 5},
    ),
    "canine": make_canine,
    # Decoders
    "qwen2": encoder("Qwen2", _left, DECODER_SIZES, **_last),
    "qwen2_bidirectional": partial(make_bidirectional, "Qwen2"),
    "qwen3": encoder("Qwen3", _left, _QWEN3, prompts=INSTRUCTION, **_last),
    "qwen3_chat": encoder(
        "Qwen3", partial(_left, chat=True), _QWEN3, prompts=INSTRUCTION, edit=write_old_module_configuration, **_last
    ),
    "qwen3_chat_as_messages": encoder("Qwen3", partial(_left, chat=True), _QWEN3, prompts=INSTRUCTION, **_last),
    "qwen3_prompt_not_pooled": encoder("Qwen3", _left, _QWEN3, include_prompt=False, prompts=INSTRUCTION),
    "llama": encoder("Llama", _right, DECODER_SIZES),
    "llama_bidirectional": partial(make_bidirectional, "Llama"),
    "llama_without_pad_token": encoder("Llama", partial(_right, pads=False), {**DECODER_SIZES, "pad_token_id": None}),
    "llama_without_limit": encoder("Llama", _right, DECODER_SIZES, edit=forget_limits),
    "mistral": encoder("Mistral", _left, {**DECODER_SIZES, "sliding_window": 12}, **_last),
    "gemma2": encoder("Gemma2", _left, {**_QWEN3, "sliding_window": 12}, **_last),
    "gemma3": partial(make_gemma3, is_causal=True, pooling="lasttoken"),
    "embedding_gemma": make_embedding_gemma,
    "gpt2_right": encoder("GPT2", _endless, _GPT2, pooling="weightedmean"),
    "gpt2_left": encoder("GPT2", _left, _GPT2, pooling="lasttoken"),
    "gpt_neo": encoder(
        "GPTNeo", _endless,
        {"hidden_size": HIDDEN, "num_layers": 2, "num_heads": HEADS, "max_position_embeddings": 64,
         "attention_types": [[["global", "local"], 1]], "window_size": 12, "bos_token_id": 0, "eos_token_id": 0,
         "pad_token_id": 0}, pooling="weightedmean",
    ),
    "gpt_neox": encoder("GPTNeoX", _right, {**SIZES, "max_position_embeddings": 128, "pad_token_id": 0}),
    "bloom": encoder(
        "Bloom", _left, {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "pad_token_id": 0},
        pooling="weightedmean",
    ),
    "opt": encoder(
        "OPT", _left,
        {"hidden_size": HIDDEN, "word_embed_proj_dim": HIDDEN, "num_hidden_layers": LAYERS, "ffn_dim": WIDE,
         "num_attention_heads": HEADS, "max_position_embeddings": 64, "pad_token_id": 0}, pooling="lasttoken",
    ),
    "phi3": encoder("Phi3", _left, {**DECODER_SIZES, "bos_token_id": 0, "eos_token_id": 0}, pooling="lasttoken"),
    "lfm2": encoder("Lfm2", _right, _LFM2),
    "lfm2_left": encoder("Lfm2", _left, _LFM2, pooling="lasttoken"),
    "mamba": encoder(
        "Mamba", _right,
        {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "state_size": 8, "pad_token_id": 0}, 0.2,
    ),
    # Encoders and decoders in one
    "t5": make_t5_with_dense,
    "t5_with_decoder": encoder("T5", t5_tokenizer, {**_T5, "num_decoder_layers": 1, "decoder_start_token_id": 0}),
    "byt5": make_byt5,
    "mt5": encoder("MT5Encoder", t5_tokenizer, {**_T5, "num_decoder_layers": 4, "feed_forward_proj": "gated-gelu"}),
    "umt5": encoder("UMT5Encoder", t5_tokenizer, _T5),
    "longt5": encoder("LongT5Encoder", t5_tokenizer, {**_T5, "local_radius": 7}),
    "t5gemma": make_t5gemma,
    "bart": encoder(
        "Bart", partial(roberta_tokenizer, "BartTokenizer"),
        {"d_model": HIDDEN, "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
         "decoder_start_token_id": 2}
        | {f"{part}_{size}": value for part in ("encoder", "decoder")
           for size, value in (("layers", LAYERS), ("attention_heads", HEADS), ("ffn_dim", WIDE))},
    ),
    "sonar": make_sonar,
    # Without a transformer
    "static": partial(make_static, prompts={"query": "query: ", "document": "passage: "}),
    "static_float16": partial(make_static, half=True),
    "word_embeddings": make_word_embeddings,
    "word_embeddings_cnn": make_cnn,
    "word_embeddings_lstm": make_lstm,
    "word_weights": make_word_weights,
    "bag_of_words": make_bag_of_words,
    # Modules around a transformer
    "weighted_layer_pooling": make_weighted_layers,
    "mixed_tail": make_mixed_tail,
    "residual_tail": make_residual_tail,
    "dense_on_tokens": make_dense_on_tokens,
    "prompt_not_pooled": lambda folder: save(folder, *bert(), include_prompt=False, normalize=True),
    "router_with_default": partial(make_router, "document"),
    "router_without_default": partial(make_router, None),
    "router_with_static_queries": make_router_with_static_queries,
    "router_at_the_end": make_router_at_the_end,
    "lengths_by_task": make_lengths_by_task,
    "clip": make_clip,
    # Files and settings of a folder
    "default_prompt_and_dimensions": lambda folder: save(
        folder, *bert(), default_prompt_name="document", truncate_dim=16, similarity_fn_name="dot"
    ),
    "dimensions_after_normalize": lambda folder: save(folder, *bert(), truncate_dim=16, normalize=True),
    "without_limit": edited_bert(forget_limits),
    "added_tokens": lambda folder: save(
        folder, *bert(added_tokens_tokenizer()), edit=lower_case_in_configuration
    ),
    "bfloat16_on_disk": partial(make_in_precision, torch.bfloat16),
    "float16_on_disk": partial(make_in_precision, torch.float16),
    "pytorch_model_bin": edited_bert(keep_weights_as_pytorch_model),
    "sharded": edited_bert(keep_weights_in_shards),
    "version_2": edited_bert(write_everything_as_version_2),
    "names with spaces, modèle 文 #1": lambda folder: save(folder, *bert()),
    "peft_adapter": make_peft,
    "plain_transformers": make_plain,
    "own_module_code": edited_bert(add_module_of_own_code),
    "own_architecture_code": edited_bert(name_architecture_of_own_code),
    # No dense vectors
    "sparse_encoder": make_sparse,
    "cross_encoder": partial(make_from_plain, CrossEncoder, make_plain_classifier),
    "cross_encoder_plain": make_plain_classifier,
    "multi_vector": partial(make_from_plain, MultiVectorEncoder, make_plain),
}  # fmt: skip
