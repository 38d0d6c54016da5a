#!/usr/bin/env bash
# Makes a reference of full size (12 x 768, the paper's widths) from scratch on one GPU: trains the
# supernet, measures shapes on two held-out texts, fits the predictor, says what it is worth.
#
#   TEXT=folder/with/jsonl WORK=folder/for/checkpoints bash make_full_size.sh [train] [measure] [fit]
#
# Without a phase all three run. Every phase goes on where it was stopped, by Ctrl-C, `timeout` or a
# time limit: give the same command again (`timeout 590 bash make_full_size.sh train`). No network is
# needed. TEXT holds *.jsonl(.gz) files with a "text" field; heldout_news is never trained on.
# Text that is tokenised already is taken from WORK/corpus and WORK/news, and TEXT can then be left
# out: run `bash make_full_size.sh tokenise` once on any machine and copy WORK, 45 MB.
#
# The largest net trains alone for HEAD_STEPS steps, until it has left the plateau of word
# frequencies (a loss near 7); the sandwich follows. The defaults are meant for half an hour of an
# H100 or H200; the variables below change them. TRIAL=1 goes through all of it on a CPU in minutes,
# with a net of the same shapes that is 16 times as narrow.
set -euo pipefail
# The command in hand gets the signal too, and may take a moment to save.
trap 'exit 130' INT TERM
: "${WORK:?folder for checkpoints and tables}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -n "${TRIAL:-}" ]; then
  mkdir -p "$WORK"
  cat >"$WORK/trial.json" <<'JSON'
{"hidden_size": 48, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 96,
 "widths": [8, 16, 22, 30, 34, 38, 48]}
JSON
  : "${CONFIG:=$WORK/trial.json}" "${VOCABULARY:=500}" "${STEPS:=30}" "${HEAD_STEPS:=10}" "${WARMUP:=3}"
  : "${BATCH:=8}" "${RATE:=1e-3}" "${CHECKPOINT:=10}" "${SHAPES:=60}" "${BLOCKS:=8}" "${COMPILE:=--no-compile}"
fi
config=${CONFIG:-base} vocabulary=${VOCABULARY:-28996}
steps=${STEPS:-10000} head_steps=${HEAD_STEPS:-3000} warmup=${WARMUP:-1000}
batch=${BATCH:-256} rate=${RATE:-2e-4} checkpoint=${CHECKPOINT:-500}
shapes=${SHAPES:-10000} blocks=${BLOCKS:-256} compile=${COMPILE:---compile}
results=${RESULTS:-$here/supershaper}
net=$WORK/net

tokenise() {
  if [ -f "$WORK/corpus/corpus.json" ] && [ -f "$WORK/news/corpus.json" ]; then return; fi
  : "${TEXT:?folder with the text, or a WORK that holds corpus and news}"
  VOCABULARY=$vocabulary python - <<'PYTHON'
import os
from pathlib import Path

from nastool_supershaper.data import load_tokenizer, prepare_corpus, text_files, train_tokenizer

text, work = Path(os.environ["TEXT"]), Path(os.environ["WORK"])
news = text_files([text / "heldout_news*"])
sources = [source for source in text_files([text]) if source not in news]
# As many tokens as BERT-base-cased has, so that sizes are those of the paper.
if not (work / "tokenizer" / "tokenizer.json").is_file():
    tokenizer = train_tokenizer(sources, int(os.environ["VOCABULARY"]))
    tokenizer.save_pretrained(str(work / "tokenizer"))
tokenizer = load_tokenizer(work / "tokenizer")
for name, part, held_out in (("corpus", sources, 0.01), ("news", news, 0.0)):
    corpus = prepare_corpus(part, tokenizer, work / name, held_out=held_out)
    print(f"{name}: {corpus.train.size:,} tokens, {corpus.held_out.size:,} held out")
PYTHON
}

train() {
  tokenise
  python -m nastool pretrain --config "$config" --corpus "$WORK/corpus" --resume --rule sandwich \
    --steps "$steps" --head-steps "$head_steps" --warmup-steps "$warmup" --batch-size "$batch" \
    --learning-rate "$rate" $compile --checkpoint-every "$checkpoint" --evaluate-every "$checkpoint" \
    --output "$net"
}

measure() {
  # Beside the random ones, every shape with a name: cigars, templates, the published ones.
  python - "$net" >"$WORK/heuristics.csv" <<'PYTHON'
import sys

from nastool import load_space

space = load_space(f"supershaper:{sys.argv[1]}")
print(",".join(gene.name for gene in space.genes))
for family in space.heuristics.values():
    for architecture in space.decode(family):
        print(",".join(map(str, architecture)))
PYTHON
  mkdir -p "$results"
  for text in corpus news; do
    case $text in corpus) table=perplexity ;; news) table=perplexity_news ;; esac
    python -m nastool measure "$net" --corpus "$WORK/$text" --blocks "$blocks" --shapes "$shapes" \
      --shapes-from "$WORK/heuristics.csv" --output "$results/$table.csv.gz"
  done
}

fit() {
  python -m nastool fit "$results/perplexity.csv.gz" --space "supershaper:$net" --output "$results/perplexity"
  python "$here/describe.py" "supershaper:$net" "$results" --run "$net" | tee "$results/README.md"
}

if [ $# -eq 0 ]; then set -- train measure fit; fi
for phase in "$@"; do
  case $phase in
    tokenise | train | measure | fit) "$phase" ;;
    *)
      echo "expected tokenise, train, measure or fit, got $phase" >&2
      exit 2
      ;;
  esac
done
