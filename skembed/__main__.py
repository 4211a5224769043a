"""The command ``python -m skembed embed``. Imports argparse; what does the work only when there is some."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any

# Options whose values may stand one behind the other, and what these look like: anything else behind them is a source.
_SEVERAL = {
    "--pooling": "cls|max|mean|mean_sqrt_len_tokens|weightedmean|lasttoken",
    "--layers": "-?[0-9]+",
}
_PARAMETER = re.compile(r"(?<![\w/\\'=.-])(\w++)=('[^' ]*'|\([^()]*\)|[\w.-]*\w)(?![\w/\\=])")  # and no part of a path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        None: those of the process.

    Returns
    -------
    int
        0 if it is done, 1 after an error, 130 after Ctrl-C.
    """
    parser = _parser()
    known, others = parser.parse_known_args(_with_values_joined(sys.argv[1:] if arguments is None else arguments))
    unknown = [argument for argument in others if argument.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    parsed = vars(known)
    sources, out, column = [*parsed.pop("source"), *others], parsed.pop("out"), parsed.pop("column")
    given = {name: value for name, value in parsed.items() if value is not None}
    for name, kind in (("pooling", tuple), ("layers", tuple), ("device", list)):
        if name in given:
            values = [value for values in given[name] for value in values]
            given[name] = values[0] if len(values) == 1 else kind(values)
    try:
        from skembed import embed_parquet

        n_rows = embed_parquet(sources[0] if len(sources) == 1 else sources, out, column, **given)
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on after the last whole file.", 130)
    except (ImportError, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)  # not its repr
        return _say(f"error: {_as_options(' '.join(said.split())) or type(error).__name__}", 1)
    return _say(f"{n_rows:,} rows with vectors in {out}", 0)


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"skembed: {message}\n")
    return code


def _with_values_joined(arguments: Sequence[str]) -> list[str]:
    """Write ``--pooling mean cls`` as ``--pooling=mean,cls``, so that no source behind it is taken for a value."""
    joined: list[str] = []
    option = ""  # whose values come now
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


def _as_options(message: str) -> str:
    """Write ``resume=False`` and the like in a message as the options that they are in a shell."""
    commands: Any = _parser()._subparsers
    options_of = {action.dest: action.option_strings for action in commands._group_actions[0].choices["embed"]._actions}

    def as_option(found: re.Match[str]) -> str:
        value = re.sub(r"[()' ]", "", found[2]).strip(",")
        negative = [option for option in options_of.get(found[1], []) if option.startswith("--no-")]
        positive = [option for option in options_of.get(found[1], []) if option not in negative]
        if value in ("True", "False"):
            return next(iter(positive if value == "True" else negative), found[0])
        return f"{positive[0]} {value}" if positive and value != "None" else found[0]

    return _PARAMETER.sub(as_option, message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skembed", description="Sentence embeddings.")
    embed = parser.add_subparsers(required=True, metavar="embed").add_parser(
        "embed",
        help="embed a column of parquet or CSV files",
        description="Embed a column of parquet or CSV files of any size into parquet files. An interrupted run goes on "
        "when it is started again.",
    )
    add = embed.add_argument
    add("source", nargs="+", help="a parquet or CSV file, several, or a folder of them")
    add("--column", required=True, help="name of the column of text")
    add("--out", required=True, help="folder for the files with vectors")
    add("--vector-column", help="name of the column of vectors (vector)")
    add("--rows-per-file", type=int, help="rows in each file (100000)")
    add("--no-resume", dest="resume", action="store_false", default=None, help="delete what is there and start anew")
    _add_parameters(embed.add_argument_group("the model", "as the parameters of SentenceEmbeddingTransformer"))
    return parser


def _add_parameters(group: Any) -> None:
    """Add an option for each field of :class:`skembed.encoding.settings.Settings`."""

    def add(name: str, **params: Any) -> None:
        group.add_argument(name, default=None, **params)

    def words(written: str) -> list[str]:
        return written.split(",")

    def integers(written: str) -> list[int]:
        return [int(number) for number in written.split(",")]

    yes_or_no = argparse.BooleanOptionalAction
    add("--model", help="name on the hub, or a folder (all-MiniLM-L6-v2)")
    add("--pooling", action="append", type=words, help="mean, cls, max, ...; several are concatenated: mean,cls")
    add("--layers", action="append", type=integers, help="hidden layers, averaged (-1); several: -1,-2")
    add("--normalize-embeddings", action=yes_or_no, help="vectors of length 1 or not")
    add("--truncate-dim", type=int, help="keep the first so many dimensions")
    add("--prompt", help="put before every text")
    add("--prompt-name", help="name of one of the model's own prompts")
    add("--task", help="query or document: what the texts are, for models that tell them apart")
    add("--max-seq-length", type=int, help="most tokens of a text that are read")
    add("--long-texts", help="truncate, mean or error")
    add("--missing", help="error, empty, zero or nan (nan)")
    add("--device", action="append", type=words, help="cpu, cuda, mps (auto); several: cuda:0,cuda:1")
    add("--backend", help="torch or openvino (auto)")
    add("--dtype", help="float32, bfloat16 or float16 (auto)")
    add("--batch-tokens", type=int, help="most tokens in a batch")
    add("--cache", help="disk, memory, or a folder, to keep vectors by text")
    add("--revision", help="branch, tag or commit of a model on the hub")
    add("--local-files-only", action="store_true", help="never ask the hub")
    add("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    add("--show-progress-bar", action=yes_or_no, help="show how far it is, or not (where there is a terminal)")


if __name__ == "__main__":
    sys.exit(main())
