"""Whether LaTeX can make the PDF here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ripstop.files import read_text

USED = re.compile(r"\\usepackage(?:\[[^]]*\])?\{([^}]*)\}")


def why_no_latex(source: Path) -> str:
    """Why there will be no PDF of `source`, in one sentence; "" where LaTeX and every package that it uses are there."""
    remedy = "install what envs/paper lists and run `make paper` again (tables and figures need no LaTeX)"
    if not (shutil.which("latexmk") and shutil.which("kpsewhich")):
        return f"paper/main.pdf is not made: LaTeX (latexmk) is not installed; {remedy}."
    if not source.is_file():
        return f"paper/main.pdf is not made: {source} is missing; restore it with git."
    names = [name.strip() for group in USED.findall(read_text(source)) for name in group.split(",")]
    # kpsewhich prints nothing for a file that it does not find.
    command = ["kpsewhich", *(f"{name}.sty" for name in names)]
    found = {Path(line).stem for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()}
    missing = [name for name in names if name not in found]
    return f"paper/main.pdf is not made: LaTeX lacks {', '.join(missing)}; {remedy}." if missing else ""
