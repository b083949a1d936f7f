import atexit
import functools
import os
import shlex
import sys
import tempfile
from pathlib import Path

ROOT = Path(workflow.basedir)
# This checkout's code, whichever one the environment was set up in (workflow/scripts/logged does the same).
sys.path.insert(0, str(ROOT / "src"))

from ripstop import accepted, params
from ripstop.config import ConfigError
from ripstop.files import sentence
from ripstop.paper.pdf import why_no_latex
from ripstop.plan import plan
from ripstop.prune import strangers
from ripstop.training.lock import Lock

# Not `configfile:`, which would run Python that a YAML file asks it to, and read `010` as eight.
try:
    if unknown := config.keys() - {"scale"}:
        raise ConfigError(f"--config {', '.join(unknown)}: takes scale=<scale> alone; edit params.yaml for all else")
    grid = plan(params.load(Path("params.yaml"), scale=str(config["scale"]) if config else None))
    NO_LATEX = why_no_latex(Path("paper/main.tex"))
    if not os.access(".", os.W_OK):
        raise ConfigError(
            f"{Path.cwd()}: cannot be written to, and Snakemake notes there what it made; change its permissions"
        )
except ConfigError as error:
    sys.exit(f"error: {error}")
except OSError as error:
    sys.exit(f"error: {sentence(error)}")

DATA = "results/{scale}/data/{data}"
STUDY = "results/{scale}/{study}"
RUN = f"{STUDY}/runs/{{run}}"
RECORDS = "results/records/{scale}/{study}.jsonl.gz"
CHOICE = f"{STUDY}/choices/{{choice}}.json"
LOGS = "results/{scale}/logs"
BENCHMARKS = "results/{scale}/benchmarks"
PAPER = f"results/{grid.scale}/paper"
LOGGED = "workflow/scripts/logged {log:q}"
SOURCES = ["paper/main.tex", *sorted(str(path) for path in Path("paper/sections").glob("*.tex"))]
ACCEPTED = [str(path) for path in [accepted.FILE] if path.is_file()]
LATEX = not NO_LATEX
LOOKED_AT = tempfile.TemporaryDirectory(prefix="ripstop-plan-")


# No '=' or ',' in a wildcard's value: a Slurm job gets its wildcards as rule:name=value,name=value
# and could not read them back.
wildcard_constraints:
    scale=grid.scale,
    study="|".join(grid.studies),
    run=r"[^/=,]+",
    choice=r"[^/=,]+",
    part=r"\w+",
    data=r"[^/=,]+",


@functools.cache
def alone():
    """No other process executes the workflow in this folder, until this one has ended in whatever way.

    So Snakemake's own locks, which a process that was killed leaves, hold nothing any more.
    """
    lock = Lock(Path(".snakemake/execution.lock").absolute())
    try:
        lock.__enter__()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {sentence(error)}")
    atexit.register(lock.__exit__, None, None, None)
    for left in Path(".snakemake/locks").glob("*.lock"):
        left.unlink()


def planned(name):
    """A file of the plan as an input.

    Who executes the workflow writes it where it differs. Who only looks (a dry run, a summary) writes nothing into the
    tree: a file that would differ is then one in a temporary folder, so that what depends on it shows as stale.
    """
    path = grid.folder() / name
    if not workflow.is_main_process or name not in grid.files:
        return str(path)
    if workflow.executor_plugin is not None and not workflow.dryrun:
        alone()
        # How often a training reports, and how processes share it, makes nothing stale, so those files are no input: they are
        # written with the others. So is choose.code, since Snakemake may list a study's folder once and for all when it has
        # seen paper.code there.
        beside = [f"{name.rpartition('/')[0]}/{file}" for file in ("reporting.yaml", "parallel.yaml", "choose.code")]
        grid.write(name for name in [name, *beside] if name in grid.files)
    elif not path.is_file() or path.read_text(encoding="utf-8") != grid.files[name]:
        path = Path(LOOKED_AT.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(grid.files[name], encoding="utf-8")
    return str(path)


def of_data(*names):
    """Input function: planned files of prepared data, those that it has."""

    def files(wildcards):
        wanted = [f"data/{wildcards.data}/{name}" for name in names]
        return [planned(name) for name in wanted if name in grid.files]

    return files


def of_run(pattern):
    """Input function: a planned file of a run."""
    return lambda wildcards: planned("{study}/runs/{run}/".format(**wildcards) + pattern.format(**wildcards))


def job(wildcards):
    """What the plan knows of a run."""
    return grid.runs[wildcards.study][wildcards.run]


def is_exclusive(wildcards):
    """Whether a part of an evaluation runs alone on its machine."""
    return job(wildcards).parts[wildcards.part].exclusive


def parts_read(wildcards):
    """What other parts left and a part of an evaluation reads."""
    read = job(wildcards).parts[wildcards.part].reads
    return [f"{STUDY}/runs/{part}".format(**wildcards) for part in read]


def evaluation_threads(wildcards):
    """Those of the run, or every core that there is, so that nothing runs beside it. On a cluster there is no such number."""
    return workflow._cores if is_exclusive(wildcards) and workflow._cores else job(wildcards).threads


def data_of_run(wildcards):
    """The prepared data of a run."""
    return f"{DATA}/data.json".format(data=job(wildcards).data, scale=wildcards.scale)


def model_of_run(wildcards):
    """The trained model of a run, of one that trains."""
    return f"{RUN}/model.safetensors".format(**wildcards) if job(wildcards).trains else []


def choice_of_run(wildcards):
    """The choice that a run takes settings from, of one that has one."""
    choice = job(wildcards).choice
    return CHOICE.format(**wildcards, choice=choice) if choice else []


def candidates(wildcards):
    """The reports of the trained candidates for a choice."""
    runs = grid.choices[wildcards.study][wildcards.choice]
    return [f"{RUN}/training.json".format(run=run, scale=wildcards.scale, study=wildcards.study) for run in runs]


def parts_of_study(wildcards):
    """What every part of every run of a study leaves."""
    runs = grid.runs[wildcards.study].items()
    return [f"{RUN}/parts/{part}".format(run=run, **wildcards) for run, found in runs for part in found.parts]


def of_study(name):
    """Input function: a planned file of a study."""
    return lambda wildcards: planned(f"{wildcards.study}/{name}")


def records_read_by_study(wildcards):
    """The records of other studies that a study's printer reads."""
    return [records_of(other) for other in grid.reads[wildcards.study]]


def records_of(study):
    """The collected records of a study. They have to be there where the paper is drawn again and nothing else may run."""
    path = RECORDS.format(scale=grid.scale, study=study)
    allowed = workflow.dag_settings.allowed_rules
    if allowed and "collect" not in allowed and not os.path.isfile(path):
        sys.exit(f"error: {path}: no such file, so {study} cannot be drawn; make it with `snakemake study_{study}`")
    return path


def options(name, values):
    """A repeated option of a command line, quoted."""
    return " ".join(f"{name} {shlex.quote(value)}" for value in values)


def of_every_study(pattern):
    """The pattern's file for every study."""
    return [pattern.format(study=study, scale=grid.scale) for study in grid.studies]


def python(environment):
    """The interpreter of an environment: the active one, or the one that envs/<environment>/setup makes."""
    return "python" if environment == "main" else f".venv-{environment}/bin/python"


def python_of_part(wildcards):
    """The interpreter for a part of an evaluation. Without the environment it is the active one: the part says what it lacks."""
    found = python(job(wildcards).parts[wildcards.part].environment)
    return found if found == "python" or os.access(found, os.X_OK) else "python"


def summary():
    """What an execution says first."""
    yield f"scale {grid.scale}: {', '.join(f'{study} {len(runs)} runs' for study, runs in grid.runs.items())}"
    yield from grid.accepted
    left = strangers(grid)
    if left:
        yield (
            f"{len(left)} folders no longer belong to the grid and stay where they are, such as {left[0]}; "
            "`python -m ripstop prune` names and removes them"
        )
    yield f"results in results/{grid.scale}, logs in results/{grid.scale}/logs, the paper in {PAPER} and paper/"
