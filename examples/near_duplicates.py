# %% [markdown]
# # Near-duplicates: which rows could be dropped, and what leaks into a test set
#
# The 240 reviews contain three exact repeats, and ten reviews that were reworded slightly. The threshold decides what
# counts as nearly the same. The right threshold depends on the texts, so look at the pairs on both sides of it.

# %%
from pathlib import Path
from textwrap import shorten

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skembed import NearDuplicates

folder = Path(__file__).parent if "__file__" in globals() else Path()
reviews = pd.read_csv(folder / "data" / "reviews.csv")["review"]
vectors = reviews.embed(output="vector")

# %% [markdown]
# ## The pairs, most similar first
# At a low threshold, `duplicates_` lists every row that somewhat resembles an earlier one. The last column is the row
# that would be kept.

# %%
loose = NearDuplicates(threshold=0.7).fit(vectors).duplicates_.sort_values("score", ascending=False)
for _, pair in loose[loose["score"] < 0.995].iloc[::2].head(8).iterrows():
    print(f"{pair['score']:.3f}  {shorten(reviews[pair['position']], 100)}")
    print(f"       {shorten(reviews[pair['representative']], 100)}")

# %% [markdown]
# ## A threshold
# At 0.9 the groups are as they should be. In pandas, one call marks the rows to drop.

# %%
marked = reviews.text.duplicates(0.9, vectors=vectors)
kept = reviews[~marked["is_duplicate"]]
print(f"\n{len(reviews)} rows, {len(kept)} kept at 0.9")
print(marked.loc[marked["is_duplicate"], ["group", "representative", "score"]].head(3).round(3))

# %% [markdown]
# ## Chains and stars
# A chain of similar rows may connect rows that are not, above all at low thresholds. With `grouping="star"`, each row
# is near the representative of its group. The first rows become representatives: sort the rows to keep to the top.

# %%
for grouping in ("connected", "star"):
    others = NearDuplicates(threshold=0.6, grouping=grouping).fit(vectors).duplicates_
    print(f"{grouping}: {len(others)} rows have at least {others['score'].min():.2f} to their representative")

# %% [markdown]
# ## Leakage
# A test set should not contain what a model was trained on. `against` finds the nearest training row of each test row;
# in scikit-learn, that is `NearDuplicates().fit(train).match(test)`.

# %%
train, test = train_test_split(reviews, test_size=0.3, random_state=0)
found = test.text.duplicates(0.9, against=train)
print(f"\n{found['is_duplicate'].sum()} of {len(test)} test rows are in the training set, too")
clean = test[~found["is_duplicate"]]

# %% [markdown]
# ## The picture
# The number of rows that would be dropped, by threshold. Where the curve is flat, here from 0.8 to 0.9, the threshold
# hardly matters.

# %%
thresholds = np.linspace(0.5, 1, 51)
dropped = [len(NearDuplicates(threshold=threshold).fit(vectors).duplicates_) for threshold in thresholds]
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
axes.step(thresholds, dropped, where="mid")
axes.axhline(13, color="grey", linestyle=":", label="repeated on purpose")
axes.set(xlabel="threshold (cosine)", ylabel="rows that could be dropped", ylim=(0, 30))
axes.legend()
figure.savefig("near_duplicates.png", dpi=120)
