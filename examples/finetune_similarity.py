# %% [markdown]
# # Fine-tuning on pairs: what counts as the same
#
# To the original model, a shop that opens at nine and one that closes at nine are nearly the same. Pairs with scores
# teach it otherwise: `PairSimilarity` with a fine-tuner learns from the pairs it compares. To install:
# `pip install 'skembed[openvino,plot,train]'`.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import train_test_split

from skembed import PairSimilarity, SentenceEmbeddingFineTuner, SentenceEmbeddingTransformer, similarity_score

folder = Path(__file__).parent if "__file__" in globals() else Path()
pairs = pd.read_csv(folder / "data" / "sentence_pairs.csv")
train, test = train_test_split(pairs, train_size=112, random_state=0)
texts = ["text_a", "text_b"]

# %% [markdown]
# ## Before and after, on held-out pairs
# Floats are scores, so the loss is CoSENT, which learns their order. After training, compare the ranks of cosines, not
# their values.

# %%
tuner = SentenceEmbeddingFineTuner(learning_rate=1e-4, epochs=5, batch_size=8, random_state=0)
before, after = PairSimilarity(), PairSimilarity(tuner).fit(train[texts], train["score"])
test = test.assign(before=before.transform(test[texts]).ravel(), after=after.transform(test[texts]).ravel())
print(f"Spearman before: {similarity_score(before, test[texts], test['score']):.2f}")
print(f"Spearman after:  {similarity_score(after, test[texts], test['score']):.2f}")

# %% [markdown]
# How similar are pairs that say the same, and pairs that say the opposite in nearly the same words?

# %%
shared = [len(set(a.lower().split()) & set(b.lower().split())) / len(a.split()) for a, b in test[texts].to_numpy()]
test["kind"] = "other"
test.loc[test["score"] >= 4, "kind"] = "the same in other words"
test.loc[(test["score"] <= 2) & (pd.Series(shared, index=test.index) > 0.6), "kind"] = "the opposite in the same words"
print(test.groupby("kind")[["score", "before", "after"]].mean().round(2).to_string())

# %% [markdown]
# ## A model to keep
# It is saved in a folder that sentence-transformers and skembed can load like any other model.

# %%
after.embedder_.save("similarity_model")
opens, closes = SentenceEmbeddingTransformer("similarity_model").transform(["The shop opens.", "The shop closes."])
print(f"\nA shop that opens and one that closes: {opens @ closes:.2f}, with the model from its folder")

# %% [markdown]
# ## The picture

# %%
figure, panels = plt.subplots(1, 2, figsize=(12, 5), layout="constrained", sharey=True)
for axes, when in zip(panels, ("before", "after"), strict=True):
    axes.scatter(test["score"], test[when], alpha=0.6)
    axes.set(xlabel="score, 0 to 5", ylabel="cosine", title=when)
figure.savefig("finetune_similarity.png", dpi=120)
