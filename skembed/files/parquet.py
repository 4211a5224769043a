"""Files of any size: ``embed_parquet`` and ``predict_parquet`` add a column to them, ``read_parquet`` reads vectors.

Imports pandas and the vector column; pyarrow, and what runs the jobs, when they are called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import IO, Any

import pandas as pd

from skembed.checks import check_choice, check_count
from skembed.encoding.settings import check_names
from skembed.errors import ModelNotFoundError
from skembed.frames.vectors import vector_type
from skembed.optional import require
from skembed.paths import is_url, read_path, refuse_special_file


def embed_parquet(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    destination: str | os.PathLike[str],
    column: str,
    *,
    vector_column: str = "vector",
    resume: bool = True,
    rows_per_file: int = 100_000,
    **params: Any,
) -> int:
    """Embed a column of parquet or CSV files of any size into parquet files, in bounded memory.

    The rows go from ``source`` to ``destination`` in order, with all of their columns and a column of vectors. An
    interrupted run resumes after the last complete file when it is called again. Files that are added at the end of a
    folder later are embedded by the next call.

    Parameters
    ----------
    source : path or list of paths
        A parquet file (``.parquet``, ``.pq``), a CSV file (``.csv`` with commas, ``.tsv`` with tabs; UTF-8, with a
        header), a list of them, or a folder, which is read in the order of the paths in it. Folder names such as
        ``country=de`` become columns.
    destination : path
        A folder on a local disk; new, empty, or written by an earlier call. It gets ``part-000000.parquet`` and so on,
        and a ``_manifest.json`` that describes them.
    column : str
        Name of the column of text.
    vector_column : str, default="vector"
        Name of the column of vectors: fixed-size lists of float32, null where a text is missing.
    resume : bool, default=True
        Whether to resume an earlier run. What it wrote is read first, at about 1 GB a second, to verify it. False:
        what an earlier call wrote is deleted, and all rows are embedded again.
    rows_per_file : int, default=100_000
        Rows in each file of the destination except the last; at most as many are lost when a run is killed.
    **params
        Parameters of :class:`skembed.SentenceEmbeddingTransformer`. Here ``missing`` is "nan" by default, and ``cache``
        a cache of 128 MiB that lasts as long as the call.

    Returns
    -------
    int
        Number of rows in the destination, those of earlier calls included.

    Raises
    ------
    ImportError
        If pyarrow is not installed (extra ``parquet``).
    FileNotFoundError
        If there is no such file.
    KeyError
        If the source has no such column.
    TypeError, ValueError
        If the column is not text, a text cannot be read, the files differ in their columns, or a path is a URL; the
        message names the file and the row, counted from 0.
    DestinationError
        If the folder holds other files or was embedded with other settings, if a file in it is damaged, if a source
        file whose rows are in it has changed, if another process is writing into it, or if the disk is full.
    OSError
        If a part of a file cannot be read. Finished files stay.

    Warns
    -----
    TruncationWarning
        At the end, if texts are longer than the model reads, with their number.

    See Also
    --------
    skembed.read_parquet : Read the result, or some columns of it, with the vectors as a vector column.
    skembed.BatchEmbedder : Embed batches, for Ray, Dask and Spark.

    Notes
    -----
    The same from a shell: ``skembed embed reviews.parquet --column text --out embedded``.

    In CSV files an empty field is missing, and all columns are text, character by character: type inference would turn
    00123 into 123. Fields may be quoted with ``"``, which is doubled inside a quoted field; a row may have up to 16
    MiB. Parquet files may differ in the width of their numbers and in their categories, as long as nothing is lost.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> import skembed
    >>> folder = Path(tempfile.mkdtemp())
    >>> pd.DataFrame({"review": ["Great sound.", "Too heavy."], "stars": [5, 2]}).to_parquet(folder / "reviews.parquet")
    >>> skembed.embed_parquet(folder / "reviews.parquet", folder / "embedded", "review")
    2
    >>> skembed.read_parquet(folder / "embedded").dtypes["vector"]
    vector[float32, 384]
    """
    require("pyarrow", extra="parquet", needed_by="skembed.embed_parquet")
    from skembed.encoding.cache.embedding_cache import EmbeddingCache
    from skembed.files.estimators import CACHE_BYTES
    from skembed.files.job import EmbeddingJob
    from skembed.files.sources import Source
    from skembed.transformer import SentenceEmbeddingTransformer

    own = ("source", "destination", "column", "vector_column", "resume", "rows_per_file")
    check_names(params, "embed_parquet", *own)
    check_count("rows_per_file", rows_per_file)
    folder = read_path(destination, "destination")
    transformer = SentenceEmbeddingTransformer(
        **{"missing": "nan", "cache": EmbeddingCache(max_bytes=CACHE_BYTES), **params}
    )
    return EmbeddingJob(Source(source), column, vector_column, transformer).run(folder, rows_per_file, resume)


def predict_parquet(
    estimator: Any,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    destination: str | os.PathLike[str],
    column: str | Sequence[str],
    *,
    method: str = "predict",
    output: str = "prediction",
    resume: bool = True,
    rows_per_file: int = 100_000,
    trusted: Sequence[str] = (),
    trust_remote_code: bool = False,
    local_files_only: bool = True,
    show_progress_bar: bool | str = "auto",
) -> int:
    """Predict the rows of parquet or CSV files of any size into parquet files, in bounded memory.

    The rows go from ``source`` to ``destination`` in order, with all of their columns and one of predictions. An
    interrupted run resumes, and what is read, written and refused is as for :func:`embed_parquet`.

    Parameters
    ----------
    estimator : estimator, or path
        A fitted estimator of any kind, e.g. a Pipeline, or a file that ``skops.io.dump`` has written (extra ``skops``).
    source : path or list of paths
        A parquet or CSV file, a list of them, or a folder; see :func:`embed_parquet`.
    destination : path
        A folder on a local disk; new, empty, or written by an earlier call.
    column : str or list of str
        Of one name the estimator gets a Series, of a list of names a frame.
    method : {"predict", "predict_proba", "decision_function", "transform"}, default="predict"
        Method of the estimator. It gets at most 32,768 rows at a time, and must treat each row by itself.
    output : str, default="prediction"
        Name of the new column. It holds a text or a number for each row; or, where the method gives a matrix, a
        fixed-size list of numbers. In a list of one number a class, the metadata of the field hold the classes as JSON,
        under ``skembed.classes``.
    resume : bool, default=True
        Whether to resume an earlier run; False: what an earlier call wrote is deleted.
    rows_per_file : int, default=100_000
        Rows in each file of the destination except the last; at most as many are lost when a run is killed.
    trusted : sequence of str, default=()
        Names of types that a file of skops may hold, beside those of skops' own list and skembed's estimators.
    trust_remote_code : bool, default=False
        Whether models in a file of skops may bring Python code of their own.
    local_files_only : bool, default=True
        Whether models in a file of skops are looked for on this machine alone. False: the hub may be asked.
    show_progress_bar : bool or "auto", default="auto"
        Whether to show a progress bar; "auto": in a terminal or notebook.

    Returns
    -------
    int
        Number of rows in the destination, those of earlier calls included.

    Raises
    ------
    ImportError
        If pyarrow or skops is not installed.
    FileNotFoundError
        If there is no such file.
    KeyError
        If the source has no such column.
    NotFittedError
        If the estimator is not fitted.
    TypeError, ValueError
        If the estimator has no such method or refuses the rows, with the file and the row, counted from 0, if it names
        one; or if a file of skops holds types or code that are not trusted.
    DestinationError
        As for :func:`embed_parquet`; also if the folder was written with another estimator.

    See Also
    --------
    skembed.embed_parquet : Embed a column.

    Notes
    -----
    The same from a shell: ``skembed predict model.skops reviews.parquet --column text --out predicted``.

    A folder belongs to one estimator: of a file, its SHA-256 tells; otherwise a hash of its class, parameters and
    fitted attributes, without ``n_jobs``, ``verbose`` and ``cache``. In CSV files all columns are text.

    Embedders keep vectors in their own ``cache``, in memory up to 1 GiB by default; those in a file up to 128 MiB each.
    The type of the predictions is that of the first row of the source, which is predicted first of all.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> import skembed
    >>> classifier = skembed.SentenceEmbeddingClassifier({"good": "It is great.", "bad": "It is broken."}).fit(None)
    >>> folder = Path(tempfile.mkdtemp())
    >>> pd.DataFrame({"review": ["Great sound.", "The zip broke."]}).to_csv(folder / "reviews.csv", index=False)
    >>> skembed.predict_parquet(classifier, folder / "reviews.csv", folder / "predicted", "review")
    2
    >>> skembed.read_parquet(folder / "predicted")
               review prediction
    0    Great sound.       good
    1  The zip broke.        bad
    """
    require("pyarrow", extra="parquet", needed_by="skembed.predict_parquet")
    from skembed.files.estimators import identity_of, read_estimator
    from skembed.files.predictions import METHODS, PredictionJob, read_names
    from skembed.files.sources import Source

    columns = read_names(column)
    if not isinstance(output, str):
        raise TypeError(f"output must be a name; got {output!r}.")
    check_choice("method", method, METHODS)
    check_count("rows_per_file", rows_per_file)
    folder = read_path(destination, "destination")
    is_file = isinstance(estimator, (str, os.PathLike))
    if is_file:
        estimator, identity = read_estimator(
            estimator, trusted=trusted, trust_remote_code=trust_remote_code, local_files_only=local_files_only
        )
    else:
        identity = identity_of(estimator)
    try:
        job = PredictionJob(Source(source), columns, output, estimator, method, identity, show_progress_bar)
        return job.run(folder, rows_per_file, resume)
    except ModelNotFoundError as error:
        if is_file and local_files_only:
            raise ModelNotFoundError(f"{error} To look for it on the hub: local_files_only=False.") from error
        raise


def read_parquet(path: str | os.PathLike[str] | IO[bytes], **params: Any) -> pd.DataFrame:
    """Read a parquet file, or a folder of them, with its vectors as vector columns.

    pandas' own ``df.to_parquet(path)`` writes a vector column as fixed-size lists of float32, which pandas, polars,
    duckdb and pyarrow read without skembed. :func:`pandas.read_parquet` returns such a column as one array object per
    row; this function returns the vector column that was written.

    Parameters
    ----------
    path : str, path or file object
        The file or folder.
    **params
        Parameters of :func:`pyarrow.parquet.read_table`, e.g. ``columns`` and ``filters``.

    Returns
    -------
    DataFrame
        As from :func:`pandas.read_parquet`, except that columns of fixed-size lists of float32 are vector columns.

    Raises
    ------
    ImportError
        If pyarrow is not installed (extra ``parquet``).
    FileNotFoundError
        If there is no such file.
    pyarrow.ArrowInvalid
        If it is not a parquet file.

    Notes
    -----
    Lists of another number type, or without a fixed size, stay as pandas returns them;
    ``df["v"].astype("vector[float32, 384]")`` turns them into a vector column.

    Missing vectors need pyarrow 26; older versions cannot write or cannot read them. Numbers of vectors hardly repeat,
    so ``df.to_parquet(path, use_dictionary=False)`` may give a smaller file.

    Examples
    --------
    >>> import io
    >>> import pandas as pd
    >>> import skembed
    >>> file = io.BytesIO()
    >>> pd.DataFrame({"v": skembed.VectorArray([[0.6, 0.8], None])}).to_parquet(file)
    >>> skembed.read_parquet(file)["v"].dtype
    vector[float32, 2]
    """
    parquet = require("pyarrow.parquet", extra="parquet", needed_by="skembed.read_parquet")
    if isinstance(path, (str, os.PathLike)) and not is_url(path):  # pyarrow reads some URLs
        path = read_path(path, "path")
        refuse_special_file(path)
    table = parquet.read_table(path, **params)
    frame: pd.DataFrame = table.to_pandas(types_mapper=vector_type)
    attributes = (table.schema.metadata or {}).get(b"PANDAS_ATTRS")
    if attributes is not None:
        frame.attrs = json.loads(attributes)
    return frame
