"""Every benchmark but those of a GPU, one after the other; each writes its figures to benchmarks/results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

for script in sorted(path for path in HERE.glob("*.py") if path.name != "__main__.py"):
    if script.stem.endswith("_cuda"):
        print(f"== {script.stem}: for a GPU, and asked for by itself: python {script} --help", flush=True)
        continue
    print(f"== {script.stem}", flush=True)
    out = HERE / "results" / f"{script.stem}.json"
    subprocess.run([sys.executable, str(script), "--out", str(out)], check=True)
