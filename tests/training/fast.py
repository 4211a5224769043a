"""How the tests train: in few steps, and the same each time."""

FAST = {"learning_rate": 1e-3, "batch_size": 8, "n_pairs_per_text": 4, "random_state": 0, "cache": None}
