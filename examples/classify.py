"""Classify a sentence with an exported model: plain transformers, nothing of nastool.

nastool export --model FINE_TUNED --to film
python examples/classify.py film "What a great film."
"""

import sys

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

if len(sys.argv) != 3:
    sys.exit("usage: python examples/classify.py FOLDER SENTENCE")
folder, sentence = sys.argv[1:]

# Runs shaped_bert.py of the folder: look into it before you run what others exported.
try:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
except (OSError, ValueError) as error:
    sys.exit(f"{folder} must be an exported model: {str(error).splitlines()[0]}")
if "ShapedBertForSequenceClassification" not in (config.architectures or ()):
    sys.exit(f"{folder} must be a classifier, got {config.architectures}")
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()

with torch.inference_mode():
    logits = model(**tokenizer(sentence, truncation=True, return_tensors="pt")).logits[0]

for index, share in enumerate(logits.softmax(-1).tolist()):
    print(f"{model.config.id2label[index]}: {share:.1%}")
