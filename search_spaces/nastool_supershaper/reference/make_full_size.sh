#!/usr/bin/env bash
# Makes a reference of full size (12 x 768, the paper's widths) on one GPU in about twelve minutes:
# trains the supernet, measures shapes on two held-out texts, fits the predictor, measures its front,
# fine-tunes some of it.
#
#   TEXT=folder START=folder WORK=folder [TASKS=folder] bash make_full_size.sh [PHASE ...]
#
# Phases, in this order and all without one: tokenise train measure fit verify validate. Each goes on
# where it was stopped, by Ctrl-C, `timeout` or a time limit: give the same command again. No network
# is needed.
#
# TEXT   *.jsonl(.gz) files with a "text" field; heldout_news is never trained on. Run the phase
#        tokenise beforehand on any machine and copy WORK (45 MB), and it can be left out.
# START  a BERT of 12 layers and 768 dimensions with its tokenizer: what convert_mpnet.py makes of
#        all-mpnet-base-v2, or bert-base-uncased.
# NET    in place of START: a supernet whose weights were kept before, that goes on with a schedule of
#        its own (SEED=3 for other batches than those it knows), so that short runs add up.
#        RANDOM_SHAPES and SAMPLING say which subnets train beside the largest and the smallest.
# TASKS  a task file of `nastool validate`, or a folder with one: tasks.toml. Without it the phase
#        validate is left out.
#
# The recipe: where START was an MPNet, it is taught to do without its bias (mend.py). Pretrained
# weights under a new head are lost within 100 steps at a rate of 3e-4, so the head learns first, at
# 15 times the gentle rate of everything else; then the hidden dimensions are sorted by importance,
# then comes the sandwich, in which the largest net teaches the others what it predicts and what its
# layers hand on: narrow ones are far from trained without. Weights are kept in 16 bits before
# anything is measured, and the time says how many steps there are. TRIAL=1 goes through all of it
# on a CPU in minutes, with a net of the same shapes that is 16 times as narrow, made up where START
# is not given.
set -euo pipefail
# The command in hand gets the signal too, and may take a moment to save.
trap 'exit 130' INT TERM
: "${WORK:?folder for checkpoints and tables}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$WORK"
if [ -n "${TRIAL:-}" ]; then
  : "${START:=$WORK/start}" "${WIDTHS:=8,16,22,30,34,38,48}" "${MEND_STEPS:=10}" "${HEAD_STEPS:=10}" "${TIME:=20s}"
  : "${BATCH:=8}" "${RATE:=1e-3}" "${HEAD_RATE:=1e-3}" "${CHECKPOINT:=50}" "${SHAPES:=100}" "${BLOCKS:=8}"
  : "${MEASURE_TIME:=30s}" "${NEWS_TIME:=10s}" "${BUDGET:=200}" "${LIMIT:=3}" "${FINE_TUNING:=--max-steps 4 --dev-examples 20 --train-examples 40 --max-length 32}"
fi
widths=${WIDTHS:-120,240,360,480,540,600,768}
mend_steps=${MEND_STEPS:-600}
head_steps=${HEAD_STEPS:-250} head_rate=${HEAD_RATE:-4e-5} rate=${RATE:-1.5e-4} time=${TIME:-360s}
batch=${BATCH:-256} sandwich_batch=${SANDWICH_BATCH:-$((${BATCH:-256} / 2))} checkpoint=${CHECKPOINT:-1000} shapes=${SHAPES:-10000} blocks=${BLOCKS:-256}
measure_time=${MEASURE_TIME:-110s} news_time=${NEWS_TIME:-10s}
results=${RESULTS:-$here/supershaper} store=sqlite:///$WORK/studies.db
net=$WORK/net-16

tokenise() {
  if [ -n "${TRIAL:-}" ] && [ ! -d "$START" ]; then make_up_start; fi
  if [ -f "$WORK/corpus/corpus.json" ] && [ -f "$WORK/news/corpus.json" ]; then return; fi
  local reader=${START:-${NET:?folder of a net with its tokenizer, or START}}
  : "${TEXT:?folder with the text, or a WORK that holds corpus and news}"
  READER=$reader python - <<'PYTHON'
import os
from pathlib import Path

from nastool_supernets.corpus.corpus import prepare_corpus
from nastool_supernets.corpus.text import load_tokenizer, text_files

text, work = Path(os.environ["TEXT"]), Path(os.environ["WORK"])
news = text_files([text / "heldout_news*"])
sources = [source for source in text_files([text]) if source not in news]
tokenizer = load_tokenizer(os.environ["READER"])
for name, part, held_out in (("corpus", sources, 0.01), ("news", news, 0.0)):
    corpus = prepare_corpus(part, tokenizer, work / name, held_out=held_out)
    print(f"{name}: {corpus.train.size:,} tokens, {corpus.held_out.size:,} held out")
PYTHON
}

# An MPNet of random weights, and what convert_mpnet.py makes of it.
make_up_start() {
  START=$START python - <<'PYTHON'
import os
from pathlib import Path

from transformers import MPNetConfig, MPNetModel

from nastool_supernets.corpus.text import save_tokenizer, text_files, train_tokenizer

text, work = Path(os.environ["TEXT"]), Path(os.environ["WORK"])
tokenizer = train_tokenizer(text_files([text]), 500)
save_tokenizer(tokenizer, work / "tokenizer")
special = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
words = [special.get(token, token) for token in sorted(tokenizer.get_vocab())]
sizes = MPNetConfig(
    vocab_size=len(words), hidden_size=48, num_hidden_layers=12, num_attention_heads=2,
    intermediate_size=96, max_position_embeddings=514,
)
MPNetModel(sizes).save_pretrained(work / "mpnet")
(work / "mpnet" / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
PYTHON
  python "$here/convert_mpnet.py" "$WORK/mpnet" "$WORK/tokenizer" "$START"
}

pretrain() {
  python -m nastool pretrain --corpus "$WORK/corpus" --resume --batch-size "$batch" \
    --masking-rate 0.25 --clip-norm 3 --checkpoint-every "$checkpoint" \
    --evaluate-every "$checkpoint" "$@"
}

# A head of its own for START.
begin() {
  local encoder=$START
  if [ -f "$START/relative_bias.safetensors" ]; then
    encoder=$WORK/mended
    if [ ! -d "$encoder" ]; then
      python "$here/mend.py" "$START" "$WORK/corpus" "$encoder" --steps "$mend_steps" \
        --batch-size "$batch"
    fi
  fi
  pretrain --bert "$encoder" --widths "$widths" --rule largest --steps "$head_steps" \
    --warmup-steps $((head_steps / 5)) --learning-rate "$head_rate" --head-rate 15 --seed 1 \
    --output "$WORK/head"
}

train() {
  tokenise
  if [ -z "${NET:-}" ]; then
    begin
    NET=$WORK/head
    set -- --reorder
  fi
  if python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    set -- "$@" --cuda-graphs
  fi
  pretrain --supernet "$NET" "$@" --rule sandwich --head-steps 0 --learning-rate "$rate" \
    --random-shapes "${RANDOM_SHAPES:-1}" --sampling "${SAMPLING:-uniform}" \
    --bottleneck-rate 2 --batch-size "$sandwich_batch" --distil 0.5 --distil-hidden 30 \
    --seed "${SEED:-2}" --max-time "$time" --output "$WORK/net"
  if [ ! -d "$net" ]; then python "$here/halve.py" "$WORK/net" "$net"; fi
  # A copy, for links do not travel; what measures the front looks for held-out text there.
  if [ ! -d "$net/corpus" ]; then cp -r "$WORK/corpus" "$net/corpus"; fi
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
  # Both at once: while one starts, the other computes.
  measure_text corpus perplexity "$measure_time" &
  local first=$!
  measure_text news perplexity_news "$news_time"
  wait "$first"
}

measure_text() {
  python -m nastool measure "$net" --corpus "$WORK/$1" --blocks "$blocks" --shapes "$shapes" \
    --shapes-from "$WORK/heuristics.csv" --max-time "$3" --output "$results/$2.csv.gz"
}

fit() {
  python -m nastool fit "$results/perplexity.csv.gz" --space "supershaper:$net" \
    --against "news text=$results/perplexity_news.csv.gz" --output "$results/perplexity"
  python "$here/describe.py" "supershaper:$net" "$results" --run "$net" | tee "$results/README.md"
}

# The front of the predictor, measured on the weights that are kept.
verify() {
  python -m nastool search --space "supershaper:$net" --objective "perplexity:$results/perplexity" \
    --objective params --budget "${BUDGET:-20000}" --study front --storage "$store"
  python -m nastool verify front --supernet "$net" --blocks "$blocks" --limit "${LIMIT:-20}" \
    --storage "$store"
}

validate() {
  if [ -z "${TASKS:-}" ]; then
    echo "validate: no TASKS are named, nothing is fine-tuned" >&2
    return
  fi
  tasks=$TASKS
  if [ -d "$tasks" ]; then tasks=$tasks/tasks.toml; fi
  # A process a task, for one small net does not fill a GPU; the last one reads what they kept.
  local running=() task
  for task in $(python -c "import sys, tomllib; print(*tomllib.load(open(sys.argv[1], 'rb')))" "$tasks"); do
    fine_tune "$tasks" --tasks "$task" --models "$WORK/models/$task" >"$WORK/$task.txt" &
    running+=("$!")
  done
  for task in "${running[@]}"; do wait "$task"; done
  fine_tune "$tasks" --models "$WORK/models/all" --output "$results/validation.json"
}

fine_tune() {
  # shellcheck disable=SC2086 # options, several words
  python -m nastool validate front --supernet "$net" --pick 3 --shape largest --task-file "$1" \
    --storage "$store" ${FINE_TUNING:---max-steps 600} "${@:2}"
}

if [ $# -eq 0 ]; then set -- tokenise train measure fit verify validate; fi
for phase in "$@"; do
  case $phase in
    tokenise | train | measure | fit | verify | validate) "$phase" ;;
    *)
      echo "expected tokenise, train, measure, fit, verify or validate, got $phase" >&2
      exit 2
      ;;
  esac
done
