# %% [markdown]
# # Fine-tuning: teach the model what matters here
#
# Without tuning, the model sees the topic of a text first and praise or blame second: "This is a good movie." is closer
# to "This is a bad movie." than to "I really enjoyed the film." A few labelled texts change that.
# `SentenceEmbeddingFineTuner` is a transformer like the other one, except that it learns before it embeds. To
# install: `pip install 'skembed[openvino,plot,train]'`.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skembed import SentenceEmbeddingFineTuner, SentenceEmbeddingTransformer, SimilarityDisplay, TrainingCurveDisplay

folder = Path(__file__).parent if "__file__" in globals() else Path()
opinions = pd.read_csv(folder / "data" / "movie_opinions.csv")
train, test = train_test_split(opinions, train_size=128, stratify=opinions["opinion"], random_state=0)

# %% [markdown]
# ## How many labelled texts does it take?
# The same classifier is trained on vectors of the original model, and on vectors of a model tuned on the very texts
# that the classifier is trained on.

# %%
frozen = SentenceEmbeddingTransformer()
tuner = SentenceEmbeddingFineTuner(learning_rate=1e-4, n_pairs_per_text=4, random_state=0)
sizes, accuracy = [8, 16, 64], {"original": [], "tuned": []}
for n in sizes:
    few = train.groupby("opinion").head(n)
    for name, transformer in (("original", frozen), ("tuned", tuner)):
        pipeline = make_pipeline(transformer, LogisticRegression(max_iter=1000)).fit(few["text"], few["opinion"])
        accuracy[name].append(pipeline.score(test["text"], test["opinion"]))
    print(f"{n} texts per class: accuracy", ", ".join(f"{name} {scores[-1]:.2f}" for name, scores in accuracy.items()))

# %% [markdown]
# ## Six sentences before and after
# None of them is a training text. `tuner` was last fitted on all 128 texts.

# %%
movies = ["This is a good movie.", "I really enjoyed the film.", "The acting was superb.",
          "This is a bad movie.", "The film was dull and far too long.", "The acting was terrible."]  # fmt: skip
is_good = np.array([True, True, True, False, False, False])
is_same, is_other = (is_good[:, None] == is_good) & ~np.eye(6, dtype=bool), is_good[:, None] != is_good
for name, transformer in (("original", frozen), ("tuned", tuner)):
    vectors = transformer.transform(movies)
    cosines = vectors @ vectors.T
    nearer = np.where(is_same, cosines, 1).min(axis=1) > np.where(is_other, cosines, -1).max(axis=1)
    print(f"{name}: {nearer.sum()} of 6 sentences are closer to each of their own opinion than to any of the other")

# %% [markdown]
# ## The picture

# %%
figure, ((left, right), (curve, training)) = plt.subplots(2, 2, figsize=(15, 11), layout="constrained")
for axes, name, transformer in ((left, "original", frozen), (right, "tuned", tuner)):
    SimilarityDisplay.from_estimator(transformer, movies, ax=axes)
    axes.set_title(name)
for name, scores in accuracy.items():
    curve.plot(sizes, scores, marker="o", label=name)
curve.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="labelled texts per class", ylabel="accuracy")
curve.minorticks_off()
curve.legend()
TrainingCurveDisplay.from_estimator(tuner, ax=training)
figure.savefig("finetune_sentiment.png", dpi=100)
