import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(workflow.basedir)
# This checkout's code, whichever one the environment was set up in (workflow/scripts/logged does the same).
sys.path.insert(0, str(ROOT / "src"))

from ripstop.config import ConfigError
from ripstop.params import load
from ripstop.plan import plan

try:
    grid = plan(load(Path("params.yaml"), scale=config.get("scale")), prune=workflow.is_main_process)
except ConfigError as error:
    sys.exit(f"error: {error}")

STUDY = "results/{scale}/{study}"
RUN = f"{STUDY}/runs/{{run}}"
DATA = f"{STUDY}/data/{{data}}"
LOGS = "results/{scale}/logs/{study}"
BENCHMARKS = "results/{scale}/benchmarks/{study}"
PAPER = f"results/{grid.scale}/paper"
PAPER_TABLE = "results/{scale}/paper/tables/{study}.tex"
PAPER_FIGURE = "results/{scale}/paper/figures/{study}.pdf"
SOURCES = ["paper/main.tex", *sorted(str(path) for path in Path("paper/sections").glob("*.tex"))]
TEMPLATES = sorted(str(path) for path in Path("src/ripstop/paper/templates").glob("*.j2"))
GPUS = 1 if grid.scale == "h100" else 0


# No '=' or ',' in a wildcard's value: a Slurm job gets its wildcards as rule:name=value,name=value
# and could not read them back.
wildcard_constraints:
    scale=grid.scale,
    study="|".join(grid.studies),
    run=r"[^/=,]+",
    data=r"[^/=,]+",


def data_of_run(wildcards):
    """The prepared data of a run."""
    return f"{DATA}/data.json".format(data=grid.runs[wildcards.study][wildcards.run], **wildcards)


def records_of_study(wildcards):
    """The records of every run of a study."""
    return [f"{RUN}/records.jsonl".format(run=run, **wildcards) for run in grid.runs[wildcards.study]]


def of_every_study(pattern):
    """The pattern's file for every study."""
    return [pattern.format(study=study, scale=grid.scale) for study in grid.studies]


def work_of_training(wildcards):
    """Rough work of a run: tokens times the square of the width. As a priority it starts the longest trainings first, so
    that none is left alone on one core at the end."""
    run = yaml.safe_load(Path(f"{RUN}/config.yaml".format(**wildcards)).read_text())
    return run["training"]["steps"] * run["training"]["tokens_per_step"] * run["model"]["d_model"] ** 2


def without_latex():
    """Why there will be no PDF, in one sentence; nothing where LaTeX and every package of the paper are there."""
    remedy = "install what envs/paper lists and run `make paper` again (tables and figures need no LaTeX)"
    if not (shutil.which("latexmk") and shutil.which("kpsewhich")):
        return f"paper/main.pdf is not made: LaTeX (latexmk) is not installed; {remedy}."
    source = Path("paper/main.tex").read_text()
    names = [
        n.strip() for group in re.findall(r"\\usepackage(?:\[[^]]*\])?\{([^}]*)\}", source) for n in group.split(",")
    ]
    # kpsewhich prints nothing for a file that it does not find.
    command = ["kpsewhich", *(f"{name}.sty" for name in names)]
    found = {Path(line).stem for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()}
    missing = [name for name in names if name not in found]
    return f"paper/main.pdf is not made: LaTeX lacks {', '.join(missing)}; {remedy}." if missing else ""


NO_LATEX = without_latex()
PDF = [] if NO_LATEX else ["paper/main.pdf"]
