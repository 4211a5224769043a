"""The engine: texts in, a float32 matrix out.

The road of a text, and the file that owns each step::

    containers.py   any container of text       -> rows, with their index labels
    texts.py        rows                        -> distinct texts, and a code for each row
    settings.py     the caller's parameters     -> checked settings
    models/         name, folder or object      -> one shared model, its fingerprint, device and backend
    plan.py         settings and model          -> recipes (recipes.py) of the vectors, and how to finish them
    cache/          recipe and text            <-> vectors that were computed before, in memory or on disk
    tokens.py       distinct texts              -> token ids
    batching.py     token counts                -> batches of similar length
    backends/       batch of token ids          -> pooled vectors, by torch or OpenVINO
    long_texts.py   vectors of windows          -> one vector for each text that was split
    finishing.py    pooled vectors              -> truncated and normalized, one for each row
    encoder.py      calls all of these in order

Beside the road: ``vectors.py``, ``columns.py`` and ``labels.py`` read columns of vectors, columns of either kind, and
labels; ``progress.py`` draws bars, ``threads.py`` runs steps side by side, ``forks.py`` keeps state sound in child
processes.

The engine knows nothing of scikit-learn estimators. Importing it loads neither torch nor transformers.
"""
