"""The command ``skembed``: embed and predict. Imports argparse; the rest of skembed when there is work to do."""

from __future__ import annotations

import argparse
import os
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
        0 on success, 1 after an error, 130 after Ctrl-C; a wrong command line exits with 2.
    """
    parser, options = _make_parser()
    known, others = parser.parse_known_args(_join_values(sys.argv[1:] if arguments is None else arguments))
    unknown = [argument for argument in others if argument.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    params = {name: value for name, value in vars(known).items() if value is not None}
    command = params.pop("command")
    sources = [*params.pop("source"), *others]
    params["source"] = sources[0] if len(sources) == 1 else sources
    try:
        return _report(_COMMANDS[command](params), 0)
    except KeyboardInterrupt:
        return _report("interrupted; run the same command again to resume after the last complete file.", 130)
    except (ImportError, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        said = error.args[0] if isinstance(error, KeyError) and error.args else error  # str(KeyError) has quotes
        message = _name_options(" ".join(str(said).split()), options[command])
        return _report(f"error: {message or type(error).__name__}", 1)


def _embed(params: dict[str, Any]) -> str:
    """Call ``embed_parquet``, and return what to report."""
    from skembed import embed_parquet

    source, out, column = (params.pop(name) for name in ("source", "out", "column"))
    for name, kind in (("pooling", tuple), ("layers", tuple), ("device", list)):
        if name in params:
            params[name] = params[name][0] if len(params[name]) == 1 else kind(params[name])
    return f"{embed_parquet(source, out, column, **params):,} rows with vectors in {out}"


def _predict(params: dict[str, Any]) -> str:
    """Call ``predict_parquet``, and return what to report."""
    from skembed import predict_parquet

    estimator, source, out, column = (params.pop(name) for name in ("estimator", "source", "out", "column"))
    column = column[0] if len(column) == 1 and not params.pop("frame", False) else column
    return f"{predict_parquet(estimator, source, out, column, **params):,} rows with predictions in {out}"


_COMMANDS = {"embed": _embed, "predict": _predict}


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
    names = {
        (option.dest, option.const is False or name.startswith("--no-")): name
        for option in options
        for name in option.option_strings
    }

    def as_option(found: re.Match[str]) -> str:
        value = re.sub(r"[()' ]", "", found[2]).strip(",")
        if value in ("True", "False"):
            return names.get((found[1], value == "False"), found[0])
        name = names.get((found[1], False))
        return f"{name} {value}" if name and value != "None" else found[0]

    return _PARAMETER.sub(as_option, message)


def _make_parser() -> tuple[argparse.ArgumentParser, dict[str, list[argparse.Action]]]:
    """Make the parser; also return the options and arguments of each command."""
    from skembed import __version__

    is_script = os.path.basename(sys.argv[0]).partition(".")[0] == "skembed"
    prog = "skembed" if is_script else "python -m skembed"
    parser = argparse.ArgumentParser(
        prog=prog, description="Sentence embeddings.", epilog="Exit status: 0, 1 after an error, 130 after Ctrl-C."
    )
    parser.add_argument("--version", action="version", version=f"skembed {__version__}")
    commands = parser.add_subparsers(required=True, dest="command", metavar="{embed,predict}")
    embed = commands.add_parser(
        "embed",
        help="embed a column of parquet or CSV files",
        description="Embed a column of parquet or CSV files of any size into parquet files. Run an interrupted command "
        "again to resume it.",
    )
    options = [
        embed.add_argument("source", nargs="+", help="a parquet or CSV file, several, or a folder of them"),
        embed.add_argument("--column", required=True, help="name of the column of text"),
        embed.add_argument("--out", required=True, help="folder for the files with vectors"),
        embed.add_argument("--vector-column", help="name of the column of vectors (vector)"),
        *_add_options_of_a_run(embed),
    ]
    model = embed.add_argument_group("the model", "as the parameters of SentenceEmbeddingTransformer")
    return parser, {"embed": [*options, *_add_parameters(model)], "predict": _add_predict(commands)}


def _add_predict(commands: Any) -> list[argparse.Action]:
    predict = commands.add_parser(
        "predict",
        help="predict the rows of parquet or CSV files with a fitted estimator",
        description="Predict the rows of parquet or CSV files of any size, with an estimator that skops.io.dump has "
        "written, into parquet files. Run an interrupted command again to resume it.",
    )
    add = predict.add_argument
    return [
        add("estimator", help="a file that skops.io.dump has written"),
        add("source", nargs="+", help="a parquet or CSV file, several, or a folder of them"),
        add("--column", required=True, action="append", help="name of a column for the estimator; may be repeated"),
        add("--frame", action="store_true", default=None, help="pass a frame, even of one column"),
        add("--out", required=True, help="folder for the files with predictions"),
        add("--method", help="predict, predict_proba, decision_function or transform (predict)"),
        add("--output", help="name of the column of predictions (prediction)"),
        *_add_options_of_a_run(predict),
        add("--trust", dest="trusted", action="extend", type=_words, help="names of types that the file may hold: a,b"),
        add("--trust-remote-code", action="store_true", default=None, help="run Python code that comes with a model"),
        add("--download", dest="local_files_only", action="store_false", default=None, help="ask the hub for a model"),
        add("--show-progress-bar", action=argparse.BooleanOptionalAction, help="show a progress bar or not"),
    ]


def _add_options_of_a_run(command: argparse.ArgumentParser) -> list[argparse.Action]:
    add = command.add_argument
    return [
        add("--rows-per-file", type=int, help="rows in each file (100000)"),
        add("--no-resume", dest="resume", action="store_false", default=None, help="delete earlier results first"),
    ]


def _words(written: str) -> list[str]:
    return written.split(",")


def _add_parameters(group: Any) -> list[argparse.Action]:
    """Add an option for each field of :class:`skembed.encoding.settings.Settings`."""
    add = partial(group.add_argument, default=None)

    def integers(written: str) -> list[int]:
        return [int(number) for number in written.split(",")]

    yes_or_no = argparse.BooleanOptionalAction
    return [
        add("--model", help="name on the hub, or a folder (all-MiniLM-L6-v2)"),
        add("--pooling", action="extend", type=_words, help="mean, cls, max, ...; several are concatenated: mean,cls"),
        add("--layers", action="extend", type=integers, help="hidden layers, averaged (-1); several: -1,-2"),
        add("--normalize-embeddings", action=yes_or_no, help="vectors of length 1 or not"),
        add("--truncate-dim", type=int, help="number of leading dimensions to keep"),
        add("--prompt", help="text put before every text"),
        add("--prompt-name", help="name of one of the model's own prompts"),
        add("--task", help="query or document, for models that distinguish them"),
        add("--max-seq-length", type=int, help="maximum number of tokens read from a text"),
        add("--long-texts", help="truncate, mean or error"),
        add("--missing", help="error, empty, zero or nan (nan)"),
        add("--device", action="extend", type=_words, help="cpu, cuda, mps (auto); several: cuda:0,cuda:1"),
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
