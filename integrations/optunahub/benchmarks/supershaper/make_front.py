"""Prove the true front of the surrogate that ships, and write it to front.json.

python make_front.py
"""

from __future__ import annotations

import json
from pathlib import Path

from nastool import Problem, Study, load_objective, load_space, load_strategy

space = load_space("supershaper")
objectives = [load_objective(name, space) for name in ("perplexity", "params")]
problem = Problem(space, objectives)
strategy = load_strategy("exact", problem, 0, {})
result = Study(problem, strategy).run(100_000)
shapes = result.front().genotypes
digests = json.loads((space.reference("perplexity") / "digests.json").read_text(encoding="utf-8"))
content = {
    "surrogate": {name: digests[name] for name in ("model.json", "target.json")},
    "certificate": str(strategy.certificate).partition(" in ")[0],
    "shapes": shapes.tolist(),
}
text = json.dumps(content).replace("], [", "],\n[") + "\n"
(Path(__file__).parent / "front.json").write_text(text, encoding="utf-8")
print(f"{len(shapes)} shapes; {strategy.certificate}")
