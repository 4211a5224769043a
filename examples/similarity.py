# %% [markdown]
# # Similarity: cosines of sentences, and how well they agree with human judgements
#
# A heat map shows the cosines of a few sentences. `PairSimilarity` compares two columns row by row, and
# `similarity_score` is the measure of semantic textual similarity (STS): Spearman's rank correlation with human
# judgements from 0 (unrelated) to 5 (the same). The judgements here were made up for this example.

# %%
import matplotlib.pyplot as plt
import pandas as pd

from skembed import PairSimilarity, SentenceEmbeddingTransformer, SimilarityDisplay, similarity_score

movies = [
    "This is a good movie.",
    "This is a bad movie.",
    "I really enjoyed the film.",
    "The film was dull and far too long.",
    "Pandas is a Python library for data analysis.",
    "Our cat sleeps on the sofa all day.",
]

# %%
pairs = pd.DataFrame(
    [
        ("A man is playing a guitar.", "Someone plays the guitar.", 4.5),
        ("The train was an hour late.", "The train arrived sixty minutes behind schedule.", 5.0),
        ("She bought a red bicycle.", "She sold a red bicycle.", 2.5),
        ("Two dogs run along the beach.", "Dogs are running by the sea.", 4.0),
        ("The shop opens at nine.", "The shop closes at nine.", 2.0),
        ("Prices rose again in May.", "A boy kicks a ball.", 0.0),
        ("The soup is too salty.", "There is too much salt in the soup.", 5.0),
        ("He is reading a newspaper.", "He is reading a book.", 3.0),
        ("It will rain tomorrow.", "The forecast for tomorrow is wet.", 4.5),
        ("The meeting was moved to Friday.", "The river floods in spring.", 0.0),
        ("A child draws a house.", "A kid is painting a home.", 4.0),
        ("Turn left at the church.", "The church was built in 1720.", 1.0),
    ],
    columns=["a", "b", "people"],
)
similarity = PairSimilarity()
pairs["cosine"] = similarity.transform(pairs[["a", "b"]])
print(pairs.sort_values("people").round(2).to_string(index=False))

# %% [markdown]
# ## Which embedding agrees better?
# The score by pooling. Twelve pairs prove little; for scores on STS-Benchmark, see benchmarks/README.md.

# %%
print()
for pooling in ("mean", "max", "cls"):
    similarity.set_params(embedder=SentenceEmbeddingTransformer(pooling=pooling))
    print(f"{pooling}: Spearman {similarity_score(similarity, pairs[['a', 'b']], pairs['people']):.2f}")

# %% [markdown]
# ## The picture
# This model sees the topic first, and praise or blame second.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained", width_ratios=(3, 2))
SimilarityDisplay.from_texts(movies, ax=left)
right.scatter(pairs["people"], pairs["cosine"])
right.set(xlabel="human judgement, 0 to 5", ylabel="cosine", ylim=(-0.2, 1.05))
figure.savefig("similarity.png", dpi=120)
