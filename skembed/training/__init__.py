"""Training: texts and labels in, a tuned sentence-transformers model out.

Imports the engine (``skembed.encoding``); no estimator, directly or through what it imports.
"""
