"""Ray Data meets embeddings: ``embed`` for a dataset of Ray. Imports ray and the batches."""

from __future__ import annotations

from typing import Any

import ray
from ray.data import ActorPoolStrategy, Dataset

from skembed.encoding.settings import check_names
from skembed.frames.batches import BatchEmbedder

_ROWS_PER_BATCH = 4096  # enough to sort texts by length; the rows that are lost when a worker dies
_MANY_CPUS = 8  # in clusters of this size a worker gets several CPUs, since each worker has the model in memory
_CPUS_PER_WORKER = 2


def embed(
    ds: Dataset,
    column: str,
    *,
    vector_column: str = "vector",
    n_workers: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    batch_size: int = _ROWS_PER_BATCH,
    **params: Any,
) -> Dataset:
    """Add a column of vectors to a dataset of Ray, with workers that keep their model loaded.

    Ray restarts a worker that dies, and repeats its batch.

    Parameters
    ----------
    ds : ray.data.Dataset
    column : str
        Name of the column of text.
    vector_column : str, default="vector"
    n_workers : int, default=None
        Number of processes, each with the model in memory. None: one for each GPU of the cluster, or as many as its
        CPUs allow, with one CPU left for reading.
    num_cpus, num_gpus : float, default=None
        What Ray reserves for each worker. None: a GPU if the cluster has one and ``device`` allows it; else 1 CPU, or 2
        in a cluster of 8 or more.
    batch_size : int, default=4096
        Number of rows that a worker gets at once.
    **params
        Parameters of :class:`skembed.SentenceEmbeddingTransformer`; ``missing`` is "nan" by default here, and ``cache``
        None.

    Returns
    -------
    ray.data.Dataset
        Lazy, as all datasets; the vectors are fixed-size lists of float32.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid.

    Notes
    -----
    This is short for ``ds.map_batches(skembed.BatchEmbedder, fn_constructor_kwargs={"column": column},
    batch_format="pyarrow", compute=ActorPoolStrategy(size=...), num_gpus=...)``.

    Examples
    --------
    >>> import ray
    >>> from skembed.frames.ray import embed
    >>> reviews = ray.data.read_parquet("reviews.parquet")  # doctest: +SKIP
    >>> embed(reviews, "review").write_parquet("embedded")  # doctest: +SKIP
    """
    own = ("ds", "column", "vector_column", "n_workers", "num_cpus", "num_gpus", "batch_size")
    check_names(params, "skembed.frames.ray.embed", *own)
    keywords = {"column": column, "vector_column": vector_column, **params}
    BatchEmbedder(**keywords)  # an invalid parameter raises here rather than in a worker
    if not ray.is_initialized():
        ray.init()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    is_for_gpu = str(params.get("device", "auto")).startswith(("auto", "cuda"))
    if num_gpus is None and is_for_gpu and any(node.get("GPU", 0) >= 1 for node in nodes):
        num_gpus = 1
    if num_gpus:
        n_most = sum(int(node.get("GPU", 0) // num_gpus) for node in nodes)
    else:
        cpus = [node.get("CPU", 0) for node in nodes]
        num_cpus = num_cpus or (_CPUS_PER_WORKER if sum(cpus) >= _MANY_CPUS and max(cpus) >= _CPUS_PER_WORKER else 1)
        n_most = sum(int(some // num_cpus) for some in cpus)
        if n_most * num_cpus > sum(cpus) - 1:  # leave one CPU for reading
            n_most -= 1
    return ds.map_batches(
        BatchEmbedder,
        fn_constructor_kwargs=keywords,
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=n_workers or max(n_most, 1)),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
