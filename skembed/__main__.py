"""The command ``python -m skembed embed``. Imports argparse; what does the work only when there is some."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any


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
    parsed = vars(_parser().parse_args(arguments))
    sources, out, column = parsed.pop("source"), parsed.pop("out"), parsed.pop("column")
    given = {name: value for name, value in parsed.items() if value is not None}
    for name in ("pooling", "layers"):
        if name in given:
            given[name] = given[name][0] if len(given[name]) == 1 else tuple(given[name])
    try:
        from skembed import embed_parquet

        n_rows = embed_parquet(sources[0] if len(sources) == 1 else sources, out, column, **given)
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on after the last whole file.", 130)
    except (ImportError, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)  # not its repr
        return _say(f"error: {' '.join(said.split()) or type(error).__name__}", 1)
    return _say(f"{n_rows:,} rows with vectors in {out}", 0)


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"skembed: {message}\n")
    return code


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
    add = group.add_argument
    add("--model", help="name on the hub, or a folder (all-MiniLM-L6-v2)")
    add("--pooling", nargs="+", help="mean, cls, max, ...; several are concatenated")
    add("--layers", nargs="+", type=int, help="hidden layers, averaged (-1)")
    add(
        "--normalize-embeddings", action=argparse.BooleanOptionalAction, default=None, help="vectors of length 1 or not"
    )
    add("--truncate-dim", type=int, help="keep the first so many dimensions")
    add("--prompt", help="put before every text")
    add("--prompt-name", help="name of one of the model's own prompts")
    add("--task", help="query or document: what the texts are, for models that tell them apart")
    add("--max-seq-length", type=int, help="most tokens of a text that are read")
    add("--long-texts", help="truncate, mean or error")
    add("--missing", help="error, empty, zero or nan (nan)")
    add("--device", help="cpu, cuda, cuda:1, mps (auto)")
    add("--dtype", help="float32, bfloat16 or float16 (auto)")
    add("--batch-tokens", type=int, help="most tokens in a batch")
    add("--cache", help="disk, memory, or a folder, to keep vectors by text")
    add("--revision", help="branch, tag or commit of a model on the hub")
    add("--local-files-only", action="store_true", default=None, help="never ask the hub")
    add("--trust-remote-code", action="store_true", default=None, help="run Python code that comes with the model")


if __name__ == "__main__":
    sys.exit(main())
