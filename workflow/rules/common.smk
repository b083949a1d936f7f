import atexit
import functools
import hashlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from snakemake.io import IOFile, flag

# Every process of a cluster's job gets the signals that are meant for its training: SIGUSR1 asks where it is, SIGUSR2 warns it
# before its time is over (`warning`). It hears them all the same; Snakemake, and all that does not listen, would end by them.
for asking in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(asking, signal.SIG_IGN)

ROOT = Path(workflow.basedir)
# This checkout's code, whichever one the environment was set up in (workflow/scripts/logged does the same).
sys.path.insert(0, str(ROOT / "src"))

from ripstop import accepted, left_jobs, params, slurm, warm
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


def longest_job():
    """Minutes that the site allows a job at most, from RIPSTOP_LONGEST_JOB."""
    said = os.environ.get("RIPSTOP_LONGEST_JOB") or str(sys.maxsize)
    if not said.isdecimal() or not int(said):
        sys.exit(f"error: RIPSTOP_LONGEST_JOB: is {said!r}, and no number of minutes; correct or unset it")
    return int(said)


DATA = "results/{scale}/data/{data}"
STUDY = "results/{scale}/{study}"
RUN = f"{STUDY}/runs/{{run}}"
RECORDS = "results/records/{scale}/{study}.jsonl.gz"
ORIGINS = "results/records/{scale}/{study}.runs.json"
CHOICE = f"{STUDY}/choices/{{choice}}.json"
LOGS = "results/{scale}/logs"
BENCHMARKS = "results/{scale}/benchmarks"
PAPER = f"results/{grid.scale}/paper"
LOGGED = "workflow/scripts/logged {log:q}"
ONCE = "workflow/scripts/once {input:q} -- {output:q} --"
KEPT = Path(".snakemake/kept")
SOURCES = ["paper/main.tex", *sorted(str(path) for path in Path("paper/sections").glob("*.tex"))]
ACCEPTED = [str(path) for path in [accepted.FILE] if path.is_file()]
LATEX = not NO_LATEX
LONGEST_JOB = longest_job()
LOOKED_AT = tempfile.TemporaryDirectory(prefix="ripstop-plan-")

if workflow.remote_exec:  # inside a job of a cluster
    workflow.register_resource("serial", 1)  # no profile is read here
    warm.off()  # a cluster signals every process of a job, and a command would get it twice
elif not workflow.subprocess_exec:
    warm.on(LOOKED_AT.name)


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

    So Snakemake's own locks, which a process that was killed leaves, hold nothing any more, and its jobs on a cluster work for
    nobody.
    """
    lock = Lock(Path(".snakemake/execution.lock").absolute())
    try:
        if workflow.executor_plugin.name == "slurm":
            slurm.check()
        lock.__enter__()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {sentence(error)}")
    atexit.register(lock.__exit__, None, None, None)
    for left in Path(".snakemake/locks").glob("*.lock"):
        left.unlink()
    try:
        left_jobs.cancel(Path.cwd())
    except ConfigError as error:
        sys.exit(f"error: {error}")


@functools.cache
def by_folder():
    """Folder -> the planned files in it."""
    found = {}
    for name in grid.files:
        found.setdefault(name.rpartition("/")[0], []).append(name)
    return found


def ends_all(function):
    """An input function whose error ends everything. Snakemake would pass over a job whose inputs cannot be told, and take what
    that job made before for a source."""

    @functools.wraps(function)
    def guarded(*arguments):
        try:
            return function(*arguments)
        except ConfigError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(f"error: {sentence(error)}")

    return guarded


@ends_all
def planned(name, made):
    """A file of the plan as an input of the job that makes `made`; both below results/<scale>.

    Who executes the workflow writes it where it differs. Who only looks (a dry run, a summary) writes nothing into the
    tree: a file that would differ is then one in a temporary folder, so that what depends on it shows as stale. Unless
    `made` was made with just that, and the file was changed or removed later: once written, it makes nothing stale.
    """
    path = grid.folder() / name
    if not workflow.is_main_process or name not in grid.files:
        return str(path)
    if workflow.executor_plugin is not None and not workflow.dryrun:
        written(name.rpartition("/")[0])
    elif instead := differing(name):
        if was_made_with(path, grid.files[name], grid.folder() / made):
            return ancient(
                flag(instead, "sourcecache_entry", str(path))
            )  # of the same name to Snakemake as the planned file
        return instead
    return str(path)


@functools.cache
def written(folder):
    """Write the planned files of a folder where they differ, once an execution.

    All of them, since Snakemake may list a folder once and for all when it has seen one. (Some, as how often a training reports,
    are no input of anything, since they make nothing stale.)
    """
    alone()
    grid.write(by_folder()[folder])


@functools.cache
def differing(name):
    """Where a file of the plan is kept for who only looks; "" where what lies in the tree is the same."""
    path = grid.folder() / name
    if path.is_file() and path.read_text(encoding="utf-8") == grid.files[name]:
        return ""
    instead = Path(LOOKED_AT.name) / name
    instead.parent.mkdir(parents=True, exist_ok=True)
    instead.write_text(grid.files[name], encoding="utf-8")
    return str(instead)


def was_made_with(path, text, made):
    """Whether Snakemake noted that `made` was made when the file at `path` held `text`."""
    record = workflow.persistence.metadata(IOFile(str(made)))
    noted = record and (record.input_checksums or {}).get(str(path))
    return bool(noted) and noted.removeprefix("sha256:") == hashlib.sha256(text.encode()).hexdigest()


def of_data(*names):
    """Input function: planned files of prepared data, those that it has."""

    def files(wildcards):
        wanted = [f"data/{wildcards.data}/{name}" for name in names]
        return [planned(name, f"data/{wildcards.data}/data.json") for name in wanted if name in grid.files]

    return files


def of_run(name, made):
    """Input function: a planned file of a run, for the job that makes `made` of the run."""
    return lambda wildcards: planned(*(f"{{study}}/runs/{{run}}/{path}".format(**wildcards) for path in (name, made)))


@functools.cache
def settings():
    """Make jobs of the same group share a job of the cluster, whether or not a file connects them, and go on there when one
    of them fails.

    Snakemake gets its settings when it has read the rules, and uses them when it has put its graph together.
    """
    workflow.group_settings.group_components = grid.groups
    if workflow.remote_exec:
        workflow.execution_settings.keep_going = True


def job(wildcards):
    """What the plan knows of a run."""
    settings()
    return grid.runs[wildcards.study][wildcards.run]


def is_exclusive(wildcards):
    """Whether a part of an evaluation runs alone on its machine."""
    return job(wildcards).parts[wildcards.part].exclusive


def parts_read(wildcards):
    """What other parts left and a part of an evaluation reads."""
    read = job(wildcards).parts[wildcards.part].reads
    return [f"{STUDY}/runs/{part}".format(**wildcards) for part in read]


def group_of_training(wildcards):
    """The group of a training, None where it has a job of its own."""
    return job(wildcards).group or None


def group_of_part(wildcards):
    """The group of a part of an evaluation, None where it has a job of its own."""
    return job(wildcards).parts[wildcards.part].group or None


def minutes(value, attempt):
    """More at each attempt, since the one before may have ended for want of time, and never more than the site allows."""
    return min(value * attempt, LONGEST_JOB)


def partition(wildcards):
    """Where a run's jobs go on a cluster, by the site's variables; None: where the cluster puts them."""
    return (job(wildcards).gpus and os.environ.get("RIPSTOP_GPU_PARTITION")) or os.environ.get("SBATCH_PARTITION")


def warning(wildcards):
    """Slurm's option that warns a training two or three minutes before its time is over, where it has more than that."""
    return "--signal=USR2@120" if minutes(job(wildcards).runtime, 1) > 5 else ""


def gpus_of_node(wildcards):
    """GPUs of each of several nodes, which `gpu`, their sum, would leave to chance."""
    run = job(wildcards)
    return (
        ":".join(filter(None, ["gpu", run.gpu_model, str(run.gpus // run.nodes)]))
        if run.gpus and run.nodes > 1
        else None
    )


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


def of_study(name, made):
    """Input function: a planned file of a study, for the job that makes `made` of the study."""
    return lambda wildcards: planned(*(f"{{study}}/{path}".format(**wildcards) for path in (name, made)))


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


def python_of_training(wildcards):
    """The interpreter of a training, or what starts it in several processes."""
    run = job(wildcards)
    alone = python(run.environment)
    return (
        alone if run.processes == 1 else f"workflow/scripts/torchrun {run.nodes} {run.processes // run.nodes} {alone}"
    )


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
