# %% [markdown]
# # Clustering: how many groups there are, and what they contain
#
# k-means on the vectors of 300 support tickets, without their labels. The silhouette (Rousseeuw 1987) compares how near
# a text is to its own cluster and to the next one; the number of clusters with the highest mean is a good guess.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

import skembed  # noqa: F401 - gives series of text a method embed
from skembed import EmbeddingMapDisplay

folder = Path(__file__).parent if "__file__" in globals() else Path()
df = pd.read_csv(folder / "data" / "support_tickets.csv")
df["vector"] = df["text"].embed(output="vector")
matrix = df["vector"].to_numpy("float32")

# %%
numbers = range(2, 13)
labels_of = {n: KMeans(n, n_init=10, random_state=0).fit_predict(matrix) for n in numbers}
silhouettes = pd.Series({n: silhouette_score(matrix, labels, metric="cosine") for n, labels in labels_of.items()})
best = silhouettes.idxmax()
print(silhouettes.round(3).rename_axis("clusters").rename("silhouette").to_string())

# %% [markdown]
# ## What the clusters contain
# `series.text.cluster` runs the same k-means in one call. Rank 1 is the text nearest to the centre of its cluster.

# %%
clusters = df["text"].text.cluster(best, vectors=df["vector"], random_state=0)
table = df[["text", "label"]].join(clusters)
agreement = adjusted_rand_score(table["label"], table["cluster"])
print(f"\n{best} clusters; adjusted Rand index with the labels: {agreement:.2f}\n")
for number, members in table.groupby("cluster"):
    print(f"{number}: {len(members)} texts, {members['label'].value_counts(normalize=True).iloc[0]:.0%} of them "
          f"{members['label'].mode()[0]!r}")  # fmt: skip
    print(f"   {members.loc[members['rank'] == 1, 'text'].iloc[0][:100]}")

# %% [markdown]
# ## The picture

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained", width_ratios=(2, 3))
silhouettes.plot(ax=left, marker="o", xlabel="clusters", ylabel="mean silhouette")
left.axvline(best, color="grey", linestyle=":")
EmbeddingMapDisplay.from_embeddings(df["vector"], labels=table["cluster"], random_state=0, ax=right)
figure.savefig("clustering.png", dpi=120)
