"""Every benchmark, one after the other; each writes its figures to benchmarks/results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

for script in sorted(path for path in HERE.glob("*.py") if path.name != "__main__.py"):
    print(f"== {script.stem}", flush=True)
    out = HERE / "results" / f"{script.stem}.json"
    subprocess.run([sys.executable, str(script), "--out", str(out)], check=True)
