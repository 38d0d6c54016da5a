"""Classify a sentence with an exported model: plain transformers, nothing of nastool.

nastool export --model FINE_TUNED --to film
python examples/classify.py film "What a great film."
"""

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, sentence = sys.argv[1:]

# Runs shaped_bert.py of the folder: look into it before you run what others exported.
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()

with torch.inference_mode():
    logits = model(**tokenizer(sentence, truncation=True, return_tensors="pt")).logits[0]

for index, share in enumerate(logits.softmax(-1).tolist()):
    print(f"{model.config.id2label[index]}: {share:.1%}")
