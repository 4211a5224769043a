# %% [markdown]
# # Semantic search: find texts by meaning
#
# The reviews are embedded once; each query then finds those that say the same in other words. `save` and `load` keep
# the index for the next run. They need pyarrow: `pip install 'skembed[openvino,parquet,plot]'`.

# %%
import re
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from skembed import SemanticSearch, SimilarityDisplay

folder = Path(__file__).parent if "__file__" in globals() else Path()
reviews = pd.read_csv(folder / "data" / "reviews.csv").dropna(subset="review").drop_duplicates("review")
reviews = reviews.set_index("product")
queries = ["too loud to sleep", "my back hurts", "water came in", "good for the money"]
search = SemanticSearch().fit(reviews["review"])
hits = search.search(queries, k=3)
print(hits[["query", "rank", "score", "id", "text"]].round(2).to_string(index=False, max_colwidth=90))

# %% [markdown]
# ## Words are not enough
# A search for the words of a query finds only the texts that contain them.

# %%
for query in queries:
    patterns = [rf"\b{word}\b" for word in query.split()]
    has_all = [all(re.search(pattern, text, re.IGNORECASE) for pattern in patterns) for text in reviews["review"]]
    print(f"{query!r}: all of its words appear in {sum(has_all)} of {len(reviews)} reviews")

# %% [markdown]
# ## Among some documents
# A mask over the corpus says which reviews to look among, here those with at most two stars.

# %%
complaints = search.search(queries, k=1, where=reviews["stars"] <= 2)
print("\nOf one or two stars:")
print(complaints[["query", "score", "id", "text"]].round(2).to_string(index=False, max_colwidth=90))

# %% [markdown]
# ## More documents, and the next run
# `partial_fit` adds documents. `load` checks that the files are intact and that the model is still the same.

# %%
search.partial_fit(pd.Series(["I sat in a puddle after the first shower."], index=["tent"]))
with tempfile.TemporaryDirectory() as saved:
    search.save(saved)
    again = SemanticSearch.load(saved)
print(f"\n{len(again.corpus_)} documents; {queries[2]!r} finds first: {again.search(queries[2], k=1)['text'][0]}")

# %% [markdown]
# ## The picture
# The cosine of each query to the best hit of every query.

# %%
best = hits[hits["rank"] == 1]["text"]
figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
SimilarityDisplay.from_texts(queries, best, ax=axes)
figure.savefig("semantic_search.png", dpi=120)
