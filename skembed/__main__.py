"""The command ``python -m skembed embed``. Imports argparse; the rest of skembed when there is work to do."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

# Options that take several values, and the pattern of one value: any other argument after them is a source.
_SEVERAL = {"--pooling": "cls|max|mean|mean_sqrt_len_tokens|weightedmean|lasttoken", "--layers": "-?[0-9]+"}
_PARAMETER = re.compile(r"(?<![\w/\\'=.-])(\w++)=('[^' ]*'|\([^()]*\)|[\w.-]*\w)(?![\w/\\=])")  # outside of paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        None: those of the process.

    Returns
    -------
    int
        0 on success, 1 after an error, 130 after Ctrl-C.
    """
    parser, options = _make_parser()
    known, others = parser.parse_known_args(_join_values(sys.argv[1:] if arguments is None else arguments))
    unknown = [argument for argument in others if argument.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    parsed = vars(known)
    sources, out, column = [*parsed.pop("source"), *others], parsed.pop("out"), parsed.pop("column")
    params = {name: value for name, value in parsed.items() if value is not None}
    for name, kind in (("pooling", tuple), ("layers", tuple), ("device", list)):
        if name in params:
            params[name] = params[name][0] if len(params[name]) == 1 else kind(params[name])
    try:
        from skembed import embed_parquet

        n_rows = embed_parquet(sources[0] if len(sources) == 1 else sources, out, column, **params)
    except KeyboardInterrupt:
        return _report("interrupted; run the same command again to resume after the last complete file.", 130)
    except (ImportError, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        said = error.args[0] if isinstance(error, KeyError) and error.args else error  # str(KeyError) has quotes
        message = _name_options(" ".join(str(said).split()), options)
        return _report(f"error: {message or type(error).__name__}", 1)
    return _report(f"{n_rows:,} rows with vectors in {out}", 0)


def _report(message: str, code: int) -> int:
    sys.stderr.write(f"skembed: {message}\n")
    return code


def _join_values(arguments: Sequence[str]) -> list[str]:
    """Write ``--pooling mean cls`` as ``--pooling=mean,cls``, so that no source after it is read as a value."""
    joined: list[str] = []
    option = ""  # whose values follow
    for argument in arguments:
        has_value = joined[-1:] != [option]
        if option and not has_value and not argument.startswith("--"):
            joined[-1] += f"={argument}"
        elif option and has_value and all(re.fullmatch(_SEVERAL[option], one) for one in argument.split(",")):
            joined[-1] += f",{argument}"
        else:
            option = argument if argument in _SEVERAL else ""
            joined.append(argument)
    return joined


def _name_options(message: str, options: Sequence[argparse.Action]) -> str:
    """Replace ``resume=False`` and the like in a message by the options of the command."""
    names = {option.dest: option.option_strings for option in options}

    def as_option(found: re.Match[str]) -> str:
        value = re.sub(r"[()' ]", "", found[2]).strip(",")
        negative = [name for name in names.get(found[1], []) if name.startswith("--no-")]
        positive = [name for name in names.get(found[1], []) if name not in negative]
        if value in ("True", "False"):
            return next(iter(positive if value == "True" else negative), found[0])
        return f"{positive[0]} {value}" if positive and value != "None" else found[0]

    return _PARAMETER.sub(as_option, message)


def _make_parser() -> tuple[argparse.ArgumentParser, list[argparse.Action]]:
    """Make the parser; also return the options and arguments of ``embed``."""
    parser = argparse.ArgumentParser(prog="python -m skembed", description="Sentence embeddings.")
    embed = parser.add_subparsers(required=True, metavar="embed").add_parser(
        "embed",
        help="embed a column of parquet or CSV files",
        description="Embed a column of parquet or CSV files of any size into parquet files. Run an interrupted command "
        "again to resume it.",
    )
    add = embed.add_argument
    options = [
        add("source", nargs="+", help="a parquet or CSV file, several, or a folder of them"),
        add("--column", required=True, help="name of the column of text"),
        add("--out", required=True, help="folder for the files with vectors"),
        add("--vector-column", help="name of the column of vectors (vector)"),
        add("--rows-per-file", type=int, help="rows in each file (100000)"),
        add("--no-resume", dest="resume", action="store_false", default=None, help="delete earlier results first"),
    ]
    model = embed.add_argument_group("the model", "as the parameters of SentenceEmbeddingTransformer")
    return parser, [*options, *_add_parameters(model)]


def _add_parameters(group: Any) -> list[argparse.Action]:
    """Add an option for each field of :class:`skembed.encoding.settings.Settings`."""
    add = partial(group.add_argument, default=None)

    def words(written: str) -> list[str]:
        return written.split(",")

    def integers(written: str) -> list[int]:
        return [int(number) for number in written.split(",")]

    yes_or_no = argparse.BooleanOptionalAction
    return [
        add("--model", help="name on the hub, or a folder (all-MiniLM-L6-v2)"),
        add("--pooling", action="extend", type=words, help="mean, cls, max, ...; several are concatenated: mean,cls"),
        add("--layers", action="extend", type=integers, help="hidden layers, averaged (-1); several: -1,-2"),
        add("--normalize-embeddings", action=yes_or_no, help="vectors of length 1 or not"),
        add("--truncate-dim", type=int, help="number of leading dimensions to keep"),
        add("--prompt", help="text put before every text"),
        add("--prompt-name", help="name of one of the model's own prompts"),
        add("--task", help="query or document, for models that distinguish them"),
        add("--max-seq-length", type=int, help="maximum number of tokens read from a text"),
        add("--long-texts", help="truncate, mean or error"),
        add("--missing", help="error, empty, zero or nan (nan)"),
        add("--device", action="extend", type=words, help="cpu, cuda, mps (auto); several: cuda:0,cuda:1"),
        add("--backend", help="torch or openvino (auto)"),
        add("--dtype", help="float32, bfloat16 or float16 (auto)"),
        add("--batch-tokens", type=int, help="maximum number of tokens in a batch"),
        add("--cache", help="disk, memory, or a folder: where vectors are kept by text"),
        add("--revision", help="branch, tag or commit of a model on the hub"),
        add("--local-files-only", action="store_true", help="never ask the hub"),
        add("--trust-remote-code", action="store_true", help="run Python code that comes with the model"),
        add("--show-progress-bar", action=yes_or_no, help="show a progress bar or not (only in a terminal)"),
    ]


if __name__ == "__main__":
    sys.exit(main())
