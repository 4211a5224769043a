"""The engine: texts in, a float32 matrix out.

Data walks one road and each file owns one step of it::

    texts.py     any container of text      -> unique texts, codes, where they came from
    settings.py  the caller's parameters    -> checked settings
    models.py, model_folders.py, fingerprint.py  a name, folder or object -> one shared model, and which one it is
    devices.py   settings                   -> where it runs, and by which backend
    plan.py      settings and model         -> recipes (recipes.py) of the vectors, and how they are finished
    cache.py     (recipe, text)            <-> vectors already computed; memory_store.py or disk_store.py, records.py
    tokens.py    unique texts               -> token ids
    batching.py  token counts               -> batches of similar length
    torch_backend.py, pooling.py  a batch   -> pooled vectors; on devices of torch_batches.py, in threads.py
    openvino_backend.py, pooling.py         the same from what openvino_conversion.py converted; reader.py
    openvino_trial.py                       its compiled variants, each tried in a child process before it runs here
    encoder.py   conducts all of the above, and finishes the vectors

It knows nothing of scikit-learn estimators. Importing it loads neither torch nor transformers.
"""
