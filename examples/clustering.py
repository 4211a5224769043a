# ruff: noqa: E402 - an import stands where it is first used
# %% [markdown]
# # Topics: what these texts are about
#
# 300 support tickets become a handful of topics with names, pictures of them, their sizes over time, and a model that
# knows the topic of a new ticket. The topics are found without the labels of the tickets.
#
#     python examples/clustering.py
#     python examples/clustering.py --csv messages.csv.gz --text body --time sent --topics 20
#
# The pictures need matplotlib: `pip install 'skembed[offline,openvino,plot]'`.

# %%
import sys
from argparse import ArgumentParser
from pathlib import Path

folder = Path(__file__).parent if "__file__" in globals() else Path()  # a notebook has no __file__
TICKETS = folder / "data" / "support_tickets.csv"
parser = ArgumentParser(description="Topics of a column of text: their names, pictures, sizes over time, new rows.")
parser.add_argument("--csv", type=Path, default=TICKETS, metavar="FILE", help="table to read (default: the tickets)")
parser.add_argument("--text", default="text", metavar="COLUMN", help="where its texts are (default: text)")
parser.add_argument("--time", metavar="COLUMN", help="where their times are (default: none; the tickets get some)")
parser.add_argument("--topics", type=int, default=8, metavar="N", help="how many from section 3 on (default: 8)")
parser.add_argument("--new", nargs="+", metavar="TEXT", help="texts that are new to the topics")
parser.set_defaults(new=["Your van drove off again without ringing.", "Charged me double!!", "Who won the race?"])
options = parser.parse_args([] if "ipykernel" in sys.modules else None)
if not options.csv.is_file():
    parser.error(f"there is no file {options.csv}")
if options.topics < 1:
    parser.error("--topics must be 1 or more")

# %% [markdown]
# ## 1. The table
# Only an empty cell is a missing text. It needs no special care: it will have topic -1.
#
# The tickets have no dates, so this script makes some up. Half a year, all days alike; but tickets labelled "shipping"
# gather around 10 December, and those labelled "returns" around 9 January. Section 6 shows whether the topics, which
# know neither labels nor dates, bring these two waves to light.

# %%
import numpy as np
import pandas as pd

df = pd.read_csv(options.csv, dtype={options.text: str}, keep_default_na=False, na_values=[""])
for column in (options.text, options.time):
    if column is not None and column not in df:
        sys.exit(f"{options.csv} has no column {column!r}; it has {', '.join(map(repr, df))}.")
texts, times = df[options.text], None
if texts.nunique() < options.topics:
    sys.exit(f"{texts.nunique()} different texts do not make {options.topics} topics; --topics sets the number.")
print(f"1. {options.csv.name}: {len(df):,} rows, {texts.isna().sum():,} of them without a text")
if options.time is not None:
    times = pd.to_datetime(df[options.time])
elif options.csv == TICKETS:
    print("   A demonstration set written for this project, not a benchmark. The dates are made up here.")
    random, peak = np.random.default_rng(0), df["label"].map({"shipping": 100, "returns": 130})
    days = random.normal(peak, 15).round()  # NaN for the other labels
    days = np.where(peak.isna(), random.integers(181, size=len(df)), days)
    times = pd.Timestamp("2025-09-01") + pd.to_timedelta(days, "D")

# %% [markdown]
# ## 2. Topics
# Every text belongs to the topic whose centre is nearest to its vector. `n_topics="auto"`, the default, chooses how
# many there are. A name is made of words that are more frequent in the texts of a topic than in the others. Names are
# only as good as these words: the texts nearest to the centre show better what a topic is about.

# %%
import warnings
from textwrap import shorten

from skembed import TopicModel, TruncationWarning


def show(model):
    for topic in model.topics_.itertuples():
        print(f"   {topic.Index:>2}  {topic.size:>5,}  {topic.name}")
        print(f"              {shorten(topic.examples[0], 100, placeholder=' ...')}")


model = TopicModel().fit(texts)
warnings.simplefilter("ignore", TruncationWarning)  # if texts were too long, the line above has warned already
print(f"\n2. {model.n_topics_} topics: number, size, name, and the text nearest to the centre\n")
show(model)

# %% [markdown]
# ## 3. If you know better
# "auto" is a good start, not the truth. If topics are too broad for you, ask for more; if there are too many to read,
# `reduce` merges those that are alike. Neither takes long: the vectors are in memory, and `reduce` needs not even them.

# %%
model = TopicModel(options.topics).fit(texts)
print(f"\n3. {options.topics} topics, because we asked for so many\n")
show(model)
fewer = model.reduce(max(1, model.n_topics_ // 2))  # a new model; the other one stays as it is
parts = model.topics_["name"].groupby(fewer.predict(model.topics_["examples"].str[0]))
print(f"\n   The same reduced to {fewer.n_topics_}, and what they were\n")
for topic, names in parts:
    print(f"   {topic:>2}  {fewer.topics_['size'][topic]:>5,}  {' + '.join(names)}")

# %% [markdown]
# ## 4. Names
# `rename` replaces single names. `namer=` names all topics by a function of yours, which gets the terms of a topic and
# the texts nearest to its centre. The function here only quotes one of them; a language model could stand in its place,
# asked for a title of these terms and texts.

# %%


def quote(terms, examples):
    return f"{' and '.join(terms[:2])}, as in {shorten(examples[0], 60, placeholder=' ...')!r}"


quoting = TopicModel(options.topics, namer=quote).fit(texts)
print("\n4. Names by a function\n")
for topic, name in quoting.topics_["name"].items():
    print(f"   {topic:>2}  {name}")
if options.csv == TICKETS:
    wishes = model.predict(["It would be great if you had gift cards."])[0]
    old = model.topics_["name"][wishes]
    model.rename({wishes: "wishes"})
    print(f"\n   Topic {wishes}, {old!r}, is now called {model.topics_['name'][wishes]!r}")

# %% [markdown]
# ## 5. The pictures
# A map of the texts, with the names where their texts are, and the sizes of the topics. t-SNE makes the map from the
# vectors alone. It keeps similar texts together; distances across the map mean little.

# %%
try:
    import matplotlib  # noqa: F401 - the displays need it
except ImportError:
    TopicMapDisplay = TopicSizesDisplay = None
    print("\n5. No pictures: matplotlib is missing. To install it: pip install 'skembed[plot]'")
else:
    from skembed import TopicMapDisplay, TopicSizesDisplay

    TopicMapDisplay.from_estimator(model, texts).figure_.savefig("clustering_map.png", dpi=120)
    TopicSizesDisplay.from_estimator(model).figure_.savefig("clustering_sizes.png", dpi=120)
    print("\n5. The pictures are in clustering_map.png and clustering_sizes.png")

# %% [markdown]
# ## 6. Topics over time
# `over` counts the texts of each topic in each month; `by=` would count groups, such as countries, separately.

# %%
if times is not None:
    counts = model.over(times, freq="M")
    print("\n6. Texts of each topic by month\n")
    print(counts.T.set_index(model.topics_["name"]).rename_axis(None).to_string())
    if TopicSizesDisplay is not None:
        TopicSizesDisplay.from_estimator(model, times, freq="M").figure_.savefig("clustering_over_time.png", dpi=120)
        print("\n   The picture is in clustering_over_time.png")

# %% [markdown]
# ## 7. New rows
# `predict` gives every text the nearest topic, however far it is: no text is left out. `transform` tells how close it
# is. To set aside what belongs to no topic, choose a limit. Here it is the cosine that 99 % of the texts above exceed.

# %%
limit = np.nanquantile(model.transform(texts).max(axis=1), 0.01)
cosines = model.transform(options.new).max(axis=1)
print(f"\n7. New texts; below {limit:.2f}, a text is far from all topics\n")
for text, topic, cosine in zip(options.new, model.predict(options.new), cosines, strict=True):
    print(f"   {cosine:.2f}  {model.topics_['name'][topic] if cosine >= limit else '(none)':<28}  {text}")
