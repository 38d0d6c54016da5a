"""Continue a text with an exported decoder: ONNX Runtime, nothing of PyTorch or nastool.

nastool export STUDY --shape knee --supernet net --to small --onnx --int8
python examples/generate.py small "Once upon a time"
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from transformers import AutoTokenizer

if len(sys.argv) != 3:
    sys.exit("usage: python examples/generate.py FOLDER TEXT")
folder, text = sys.argv[1:]
files = [Path(folder) / "onnx" / name for name in ("model_int8.onnx", "model.onnx")]
file = next((file for file in files if file.is_file()), None)
if file is None:
    sys.exit(f"{folder} must hold {files[-1].relative_to(folder)}: nastool export --onnx")

tokenizer = AutoTokenizer.from_pretrained(folder)
session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
takes = {given.name: given.shape for given in session.get_inputs()}
# Keys and values of what was read so far, a pair a layer: of nothing, at first.
sizes = {name: size for name, size in takes.items() if name.startswith("past_key_values.")}
kept = {name: np.zeros((1, n, 0, size), np.float32) for name, (_, n, _, size) in sizes.items()}
if not kept:
    sys.exit(f"{file} must be a decoder, but it takes {', '.join(takes)}")
new = tokenizer(text, return_tensors="np")["input_ids"].astype(np.int64)
read, said = 0, [new]
for _ in range(40):
    places = np.arange(read, read + new.shape[1])[None]
    read += new.shape[1]
    given = {"input_ids": new, "attention_mask": np.ones((1, read), np.int64)} | kept
    given |= {"position_ids": places} if "position_ids" in takes else {}
    logits, *now = session.run(None, given)
    kept = dict(zip(kept, now, strict=True))
    new = logits[:, -1:].argmax(-1)
    if new.item() == tokenizer.eos_token_id:
        break
    said.append(new)
print(tokenizer.decode(np.concatenate(said, 1)[0], skip_special_tokens=True))
