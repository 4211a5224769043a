"""The engine: texts in, a float32 matrix out.

Data walks one road and each file owns one step of it::

    texts.py     any container of text      -> unique texts, codes, where they came from
    settings.py  the caller's parameters    -> checked settings
    models.py, fingerprint.py  a name, folder or object -> one shared model, and which one it is
    tokens.py    unique texts               -> token ids
    batching.py  token counts               -> batches of similar length
    torch_backend.py, pooling.py  a batch   -> pooled vectors
    cache.py     (recipe, text)            <-> vectors already computed
    encoder.py   conducts all of the above, and finishes the vectors

It knows nothing of scikit-learn estimators. Importing it loads neither torch nor transformers.
"""
