# %% [markdown]
# # Classification: embeddings compared with word counts
#
# How many labelled tickets does a classifier need? Both pipelines are trained on a few tickets of each of six labels,
# drawn at random ten times, and tested on the rest. The tickets were written for this project: they are a
# demonstration, not a benchmark.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline

from skembed import SentenceEmbeddingTransformer

folder = Path(__file__).parent if "__file__" in globals() else Path()
df = pd.read_csv(folder / "data" / "support_tickets.csv")
pipelines = {
    "embeddings": make_pipeline(SentenceEmbeddingTransformer(), LogisticRegression(C=10, max_iter=1000)),
    "TF-IDF": make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000)),
}

# %% [markdown]
# ## Accuracy by the number of examples
# Each text is encoded once, for the first fit; all later fits find its vector in the cache.

# %%
n_labels = df["label"].nunique()
rows = []
for n_examples in (1, 2, 4, 8, 16):
    split = StratifiedShuffleSplit(n_splits=10, train_size=n_examples * n_labels, random_state=0)
    for name, pipeline in pipelines.items():
        scores = cross_val_score(pipeline, df["text"], df["label"], cv=split)
        rows.append({"pipeline": name, "examples": n_examples, "accuracy": scores.mean(), "std": scores.std()})
results = pd.DataFrame(rows)
print(results.pivot(index="examples", columns="pipeline", values="accuracy").round(2))

# %% [markdown]
# ## The picture
# Points are the means of ten draws; bars are their standard deviation.

# %%
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for (name, curve), marker in zip(results.groupby("pipeline", sort=False), "os", strict=True):
    axes.errorbar(curve["examples"], curve["accuracy"], curve["std"], label=name, marker=marker, capsize=3)
axes.set(xscale="log", xlabel="labelled tickets per label", ylabel="accuracy on the other tickets", ylim=(0, 1))
axes.set_xticks(curve["examples"], curve["examples"])
axes.minorticks_off()
axes.legend()
figure.savefig("classification.png", dpi=120)
