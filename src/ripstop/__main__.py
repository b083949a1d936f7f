"""The command line: one command a stage. `python -m ripstop --help` lists them."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import typer

    from ripstop import ending, sdpa
    from ripstop.command_options import Data, Out, Params, Scale, Set
    from ripstop.config import ConfigError
    from ripstop.release.command import latexdiff, release
    from ripstop.report.command import report
    from ripstop.set_option import TakesSet
    from ripstop.status.command import status
    from ripstop.train_command import train
    from ripstop.why.command import why
except ImportError as broken:  # without these not even `doctor` can say what is broken
    sys.exit(f"error: {broken}; activate the environment (. .venv/bin/activate), or make it with `make setup`")

if TYPE_CHECKING:
    from ripstop.plan import Plan

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
bench = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure on this device what `auto` then goes by.")
app.add_typer(bench, name="bench")
wire = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Documents as wires: pack them, and ask what they hold.")
app.add_typer(wire, name="wire")
app.command()(status)
app.command()(release)
app.command()(report)
app.command()(latexdiff)
app.command(cls=TakesSet)(train)
app.command()(why)


@app.command(cls=TakesSet)
def plan(
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    set_: Set = [],  # noqa: B006
    write: Annotated[bool, typer.Option("--write", help="Write the input files of every run below results/.")] = False,
) -> None:
    """Print the grid: every run of every study. Nothing is written without --write."""
    from ripstop.prune import strangers

    grid = _plan(params, scale, set_)
    for study, runs in grid.runs.items():
        print(f"{study}: {len(runs)} runs in {grid.folder() / study / 'runs'}")
        for name, job in runs.items():
            print(f"  {name}  on {job.data}, measures {', '.join(job.parts)}")
    for sentence in grid.accepted:
        print(sentence)
    left = strangers(grid)
    if left:
        print(f"{len(left)} folders no longer belong to this grid; `python -m ripstop prune` names and removes them")
    if write:
        grid.write()
        print(f"{len(grid.files)} input files in {grid.folder()}")


@app.command()
def scale(params: Params = Path("params.yaml"), scale: Scale = None) -> None:
    """Print the name of the scale in force."""
    from ripstop import params as parameters

    print(parameters.load(params, scale=scale).scale)


@app.command()
def prune(
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is named.")] = False,
) -> None:
    """Name the runs and data that left the grid; with --yes remove them."""
    from ripstop import prune as pruning

    grid = _plan(params, scale, [])
    found = pruning.strangers(grid)
    for path in found:
        print(path)
    if yes:
        pruning.prune(grid)
        print(f"{len(found)} folders removed")
    else:
        print(f"{len(found)} folders do not belong to the grid; --yes removes them" if found else "nothing left the grid")


@app.command()
def restore(
    study: Annotated[list[str], typer.Argument(help="Studies whose results are fetched; none given: all.")] = [],  # noqa: B006
    params: Params = Path("params.yaml"),
) -> None:
    """Fetch results from the DVC remote, and have Snakemake take for current what of them is."""
    from ripstop.restore.restore import restore as fetch

    for sentence in fetch(_plan(params, None, []), study):
        print(sentence)


@app.command()
def accept(
    study: Annotated[list[str], typer.Argument(help="Studies whose results hold; none given: all.")] = [],  # noqa: B006
    reason: Annotated[str, typer.Option(help="Why the results hold for the changed code.")] = "",
    params: Params = Path("params.yaml"),
    scale: Scale = None,
) -> None:
    """Keep results that only a change of code made stale; recorded with its reason in results/accepted.json."""
    from ripstop import accept as accepting
    from ripstop.accepted import FILE
    from ripstop.config import nearest

    grid = _plan(params, scale, [])
    for name in study:
        if name not in grid.studies:
            raise ConfigError(f"study {name!r} does not exist{nearest(name, grid.studies)}")
    added = accepting.accept(grid, study or grid.studies, reason)
    for entry in added:
        print(f"{entry.study}: {entry.stage} made with code {entry.made} is taken for {entry.now}")
    print(f"{len(added)} digests accepted in {FILE}; commit it" if added else "nothing is stale by its code alone")


@app.command()
def prepare(folder: Annotated[Path, typer.Argument(help="A data folder of the plan: results/<scale>/data/<id>.")]) -> None:
    """Prepare data: download, tokenize, draw the test set."""
    from ripstop import yaml_file
    from ripstop.data import DATA

    config = folder / "config.yaml"
    values = yaml_file.mapping(config, "`python -m ripstop plan --write` writes it")
    DATA.parse(values, str(config)).prepare(folder)  # type: ignore[attr-defined]
    print(f"data in {folder}")


@app.command()
def loader(
    folder: Annotated[Path, typer.Argument(help="A prepared data folder: results/<scale>/data/<id>.")],
    tokens_per_step: Annotated[int, typer.Option(min=1, help="Tokens of an update, of all ranks together.")] = 2**16,
    batches: Annotated[int, typer.Option(min=2, help="How many updates are read.")] = 100,
    workers: Annotated[int | None, typer.Option(min=0, max=64, help="Threads that read ahead; none given: as trained.")] = None,
    rank: Annotated[int, typer.Option(min=0, help="Which rank reads.")] = 0,
    ranks: Annotated[int, typer.Option(min=1, help="How many ranks share the stream.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
) -> None:
    """Read training batches without a model, and say how fast they come and what they hold."""
    from ripstop import loader as reading

    print(f"{folder}: {reading.read(folder, tokens_per_step, batches, seed, workers, rank, ranks)}")


@app.command()
def choose(candidates: Annotated[list[Path], typer.Argument(help="Folders of the trained candidates.")], out: Out) -> None:
    """Choose an arm's settings by the held-out loss of its candidates."""
    from ripstop import choices

    choice = choices.choose(candidates, out)
    print(f"{', '.join(f'{key} {value}' for key, value in choice.settings.items())} of {len(choice.candidates)} in {out}")


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder of the run.")],
    data: Data = None,
    part: Annotated[str | None, typer.Option(help="Part of the evaluation, as params.yaml names it.")] = None,
    only: Annotated[str | None, typer.Option(help="Group of parts: quality, context, efficiency.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Print what fewer samples give, and record nothing.")] = False,
) -> None:
    """Measure a run and write its records: one part, a group of parts, or all that the plan gives it."""
    from ripstop.evaluation import environment
    from ripstop.evaluation.evaluate import evaluate as evaluate_run
    from ripstop.runs import prepared_data

    data = prepared_data(folder, data)
    if part is not None and only is None and not quick:
        with environment.kept(folder, part):
            records = evaluate_run(folder, data, part)
        print(f"records in {records}")
        return

    from ripstop.evaluation import groups

    for name in [part] if part is not None and only is None else groups.chosen(folder, part, only):
        left_out = groups.left_out(folder, name, quick) if part is None else ""
        if left_out:
            print(left_out)
        elif quick:
            for measured in groups.look(folder, data, name):
                print(f"{name}: {groups.shown(measured)}", flush=True)
        else:
            with environment.kept(folder, name):
                records = evaluate_run(folder, data, name)
            print(f"records in {records}", flush=True)


@app.command()
def translate(
    file: Annotated[str, typer.Argument(help="Text of documents with a blank line between them; - for standard input.")],
    run: Annotated[Path, typer.Option(help="Folder of the trained run.")],
    beam: Annotated[int, typer.Option(min=1, max=64, help="Beams of the search; 1: greedy.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder of the prepared data, where it does not lie with the run.")] = None,
) -> None:
    """Translate a text file with a trained run, one line out for every line in, as they are made."""
    from ripstop.translate import translated

    for line in translated(run, file, beam, data):
        ending.put(line)


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run on data of kind text, trained or in training.")],
    prompt: Annotated[str, typer.Option(help="Text to go on with; none given: a text begins.")] = "",
    file: Annotated[str | None, typer.Option(help="File that holds the prompt; - for standard input.")] = None,
    tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="New tokens at most.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="Of the samples; 0: the most likely token.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from so many tokens; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the fewest tokens with this probability together.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the first sample; the next has the next one.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="How many texts.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder of the prepared data, where it does not lie with the run.")] = None,
) -> None:
    """Go on with a text by a run that was trained on text: the prompt and what follows, as it is made."""
    from ripstop.generate_command import Samples
    from ripstop.models.generate import GenerationConfig
    from ripstop.translate import read_lines

    if file is not None:
        if prompt:
            raise ConfigError(f"generate: --prompt and --file {file} both give the prompt; give one of them")
        prompt = "\n".join(read_lines(file))
    values = {"max_new_tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    texts = Samples(run, prompt, GenerationConfig.parse(values, "generate"), seed, data)
    for note in texts.notes:
        print(note, file=sys.stderr)
    for number in range(samples):
        if samples > 1:
            ending.put(f"--- {number + 1} of {samples}")
        ending.put(prompt, end="")
        for piece in texts.sample(number):
            ending.put(piece, end="")
        ending.put("")


@app.command()
def presets(length: Annotated[int, typer.Option(min=1, help="Tokens of a sequence.")] = 2048) -> None:
    """Print what each named model weighs, and what a token costs it."""
    from ripstop.preset_table import lines

    for line in lines(length):
        ending.put(line)


@app.command()
def collect(records: Annotated[list[Path], typer.Argument(help="records.jsonl of the study's runs.")], out: Out) -> None:
    """Join the records of a study's runs into one file, and say beside it where they come from."""
    from ripstop.origins import write_origins
    from ripstop.records import collect as join

    joined = join(records, out)
    write_origins(records, out)
    print(f"{len(joined)} records of {len({record.run for record in joined})} runs in {out}")


@app.command()
def render(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    records: Annotated[Path, typer.Option(help="The study's collected records.")],
    out: Out,
    reads: Annotated[list[str], typer.Option(help="Records of a study that this one reads, study=path. Repeatable.")] = [],  # noqa: B006
    dropped: Annotated[
        list[str],
        typer.Option(help="What the parameters of the scale dropped, factor=value or part=name. Repeatable."),
    ] = [],  # noqa: B006
    metrics: Annotated[Path | None, typer.Option(help="Where to write metrics.json, if not below --out.")] = None,
    curves: Annotated[Path | None, typer.Option(help="Where to write curves.csv, if not below --out.")] = None,
) -> None:
    """Write everything that the paper shows of a study: numbers, figures, tables; and its metrics and curves for DVC."""
    from ripstop.paper.render import render_study

    paths = {}
    for item in reads:
        name, equals, path = item.partition("=")
        if not equals:
            raise ConfigError(f"--reads {item}: write it as study=path")
        paths[name] = Path(path)
    made = render_study(study, records, out, paths, dropped, metrics, curves)
    print(f"{len(made.numbers)} numbers, {len(made.figures)} figures and {len(made.tables)} tables of {study} in {out}")


@app.command()
def assemble(
    studies: Annotated[list[Path], typer.Argument(help="Folders that `render` wrote, in the order of the paper.")],
    scale: Annotated[str, typer.Option(help="The scale that they are of.")],
    out: Out,
    text: Annotated[Path, typer.Option(help="Folder of main.tex, sections/ and claims.yaml.")] = Path("paper"),
    params: Params = Path("params.yaml"),
) -> None:
    """Put together what the paper of a scale is made of besides its text: its numbers, claims, appendix, tables and figures."""
    from ripstop.paper.assemble import assemble as put_together

    print(f"{len(put_together(studies, scale, out, text, _scales(params)))} files in {out}")


@app.command()
def publish(assembled: Annotated[Path, typer.Argument(help="Folder that `assemble` wrote.")], out: Out = Path("paper")) -> None:
    """Copy tables, figures and the PDF of an assembled paper to where readers look."""
    from ripstop.paper.assemble import publish as copy

    for sentence in copy(assembled, out):
        print(sentence)


@app.command()
def verify(
    scale: Annotated[str, typer.Option(help="The scale that is verified.")] = "cpu",
    registry: Annotated[Path, typer.Option(help="The registry of claims.")] = Path("paper/claims.yaml"),
    recorded: Annotated[Path, typer.Option(help="The recorded verdicts.")] = Path("paper/verdicts.json"),
    record: Annotated[bool, typer.Option("--record", help="Record the verdicts of the studies at hand.")] = False,
    params: Params = Path("params.yaml"),
) -> None:
    """Recompute everything that is printed from the records on, and name what differs; print every claim's verdict.

    Exit status 1 where anything differs, a verdict from the recorded one among it.
    """
    from ripstop import params as parameters
    from ripstop import provenance
    from ripstop.config import nearest
    from ripstop.plan import plan as make_plan
    from ripstop.verify.verify import verify as verify_all

    scales = _scales(params)
    if scale not in scales:
        raise ConfigError(f"--scale {scale}: no such scale{nearest(scale, scales)}")
    grid = make_plan(parameters.load(params, scale=scale))
    raise typer.Exit(verify_all(grid, scales, registry, recorded, record, processes=provenance.cpus()))


def _scales(params: Path) -> list[str]:
    """Every scale of the parameters."""
    from ripstop import params as parameters

    return parameters.load(params).scales


@bench.command()
def selection(
    lengths: Annotated[list[int], typer.Option(help="Tokens of a sequence. Repeatable.")] = [],  # noqa: B006
    heads: Annotated[int | None, typer.Option(help="Query heads.")] = None,
    groups: Annotated[int | None, typer.Option(help="Groups of heads that share keys and values.")] = None,
    head_dim: Annotated[int | None, typer.Option(help="Width of a head.")] = None,
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32.")] = None,
    margin: Annotated[float, typer.Option(help="By which part a form has to be faster to be recommended.")] = 0.1,
    out: Annotated[Path | None, typer.Option(help="CSV to add to; not given: the one that `auto` reads.")] = None,
) -> None:
    """Time dense attention and the forms of sparse attention, and say from which length on which pays."""
    from ripstop.kernels.measured import bench_selection as measuring
    from ripstop.kernels.measured import selection as measured

    rows = []
    for row in measuring.measure(*measuring.asked_for(lengths, heads, groups, head_dim, dtype, margin)):
        rows.append(row)
        print(
            f"{row.length:>7} {row.form:<7} {row.forward:>10} {row.backward:>10} {row.decode:>9}  ms forward, backward, decode"
        )
        measured.write(rows, out or measured.FILE)
    for sentence in measuring.recommendation(measured.read(out or measured.FILE), rows[0].device, margin):
        print(sentence)
    print(f"{len(rows)} rows in {out or measured.FILE}")


@wire.command()
def pack(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run whose model is a soft_prompt.")],
    files: Annotated[list[Path], typer.Argument(help="Text files, a document each.")],
    bits: Annotated[
        str | None, typer.Option(help="Of one number: fp16, int8, int6, int4; none given: as the run was trained.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; none given: beside each file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the prepared data, where it does not lie with the run.")] = None,
) -> None:
    """Compress each text file to <file>.wire, and say how many bytes it takes."""
    from ripstop.wire_command import pack_files

    for line in pack_files(run, files, out, bits, data):
        print(line, flush=True)


@wire.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="The wire.")],
    out: Annotated[Path | None, typer.Option(help="NumPy file (.npy) to write its numbers to.")] = None,
) -> None:
    """Check a wire, say what it is of and for, and write out its numbers."""
    from ripstop.wire_command import unpack_file

    for line in unpack_file(file, out):
        print(line)


@wire.command()
def answer(
    run: Annotated[Path, typer.Argument(help="Folder of the run that packed it.")],
    file: Annotated[Path, typer.Argument(help="The wire.")],
    question: Annotated[str, typer.Argument(help="What is asked of the document.")],
    model: Annotated[str | None, typer.Option(help="Name of one frozen model of the run; none given: all of them.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the prepared data, where it does not lie with the run.")] = None,
) -> None:
    """Answer a question from a wire alone, by each frozen model of the run."""
    from ripstop.wire_command import answers

    for name, text in answers(run, file, question, model, data):
        print(f"{name}: {text}", flush=True)


@app.command()
def inspect(
    what: Annotated[str, typer.Argument(help="selection: which blocks sparse attention selects, and its gates.")],
    run: Annotated[Path, typer.Option(help="Folder of a trained run.")],
    data: Annotated[Path | None, typer.Option(help="Folder of its prepared data; none given: where the plan puts it.")] = None,
    row: Annotated[int, typer.Option(help="Number of the test row that is read.")] = 0,
    length: Annotated[int | None, typer.Option(help="Tokens of that row; none given: the shortest that is tested.")] = None,
) -> None:
    """Draw what a trained run does, into its folder."""
    from ripstop.config import nearest
    from ripstop.inspect_selection import inspect_selection

    if what != "selection":
        raise ConfigError(f"inspect {what}: nothing of that name can be drawn{nearest(what, ['selection'])}")
    print(f"drawn in {inspect_selection(run, data, row, length)}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check the set-up: versions, devices, kernels, a step of each mixer, one resume; what is missing, and how to install it.

    Exit status 0 where everything that scale cpu needs works.
    """
    from ripstop.doctor.doctor import doctor as check

    raise typer.Exit(check(as_json))


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, or of a study's results for a line a run.")],
    once: Annotated[
        bool, typer.Option("--once", help="Print one picture and end, as where the output is no terminal.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Watch a training in the terminal, running or ended: its loss, speed, memory, time left and ranks."""
    from ripstop.watch.watch import watch as watch_trainings

    watch_trainings(folder, once, every)


@app.command()
def schema(out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("workflow/schemas")) -> None:
    """Write the JSON schemas of params.yaml and of the overlays, with which an editor completes and checks them."""
    from ripstop.files import write_if_different
    from ripstop.params import schema as make_schema

    for name, overlay in (("params", False), ("scale", True)):
        path = out / f"{name}.schema.json"
        print(f"{path}: {'written' if write_if_different(path, make_schema(overlay)) else 'unchanged'}")


def _plan(params: Path, scale: str | None, overrides: list[str]) -> Plan:
    from ripstop import params as parameters
    from ripstop.plan import plan as make_plan

    return make_plan(parameters.load(params, overrides, scale))


def main() -> None:
    """Run the command; what a user or a machine caused is one sentence on standard error."""
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")  # it logs what it raises, too, which we say in one sentence
    sdpa.choose_for(sys.argv[1] if len(sys.argv) > 1 else "")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("ripstop").setLevel(logging.INFO)  # which backend runs, which positions were derived
    sys.exit(ending.run(app))


if __name__ == "__main__":
    main()
