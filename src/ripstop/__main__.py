"""The command line: one command a stage. `python -m ripstop --help` lists them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ripstop.config import ConfigError, TrainingError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Params = Annotated[Path, typer.Option(help="The parameters' file.")]
Scale = Annotated[str | None, typer.Option(help="Scale in place of the file's own: smoke, cpu, h100.")]
Set = Annotated[list[str], typer.Option("--set", help="Override, e.g. studies.mqar_cliff.seeds=[0]. Repeatable.")]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Data = Annotated[Path, typer.Option(help="Folder of the prepared data.")]
Registry = Annotated[Path, typer.Option(help="The registry of claims.")]
Numbers = Annotated[list[Path], typer.Argument(help="numbers.json of the studies, in the order of the paper.")]
Study = Annotated[str, typer.Argument(help="Name of the study.")]
Records = Annotated[Path, typer.Option(help="The study's collected records.jsonl.")]


@app.command()
def plan(params: Params = Path("params.yaml"), scale: Scale = None, set_: Set = []) -> None:  # noqa: B006
    """Write the resolved input files of every run under results/<scale>, and print the grid."""
    from ripstop import params as parameters
    from ripstop.plan import plan as make_plan

    grid = make_plan(parameters.load(params, set_, scale))
    for study, runs in grid.runs.items():
        print(f"{study}: {len(runs)} runs in results/{grid.scale}/{study}/runs")
        for name in runs:
            print(f"  {name}")


@app.command()
def prepare(config: Annotated[Path, typer.Argument(help="config.yaml of a data folder.")], out: Out) -> None:
    """Prepare a study's data: download, tokenize, draw the test set."""
    from ripstop import yaml_file
    from ripstop.data import DATA

    values = yaml_file.mapping(config, "`python -m ripstop plan` writes it")
    DATA.parse(values, str(config)).prepare(out)  # type: ignore[attr-defined]


@app.command()
def train(folder: Annotated[Path, typer.Argument(help="Folder of the run.")], data: Data, set_: Set = []) -> None:  # noqa: B006
    """Train one run; resumes by itself where an earlier one was stopped."""
    from ripstop.training.train import train as train_run

    train_run(folder, data, set_)


@app.command()
def evaluate(folder: Annotated[Path, typer.Argument(help="Folder of the run.")], data: Data) -> None:
    """Measure a trained run and write its records.jsonl."""
    from ripstop.studies.base import evaluate as evaluate_run

    print(f"records in {evaluate_run(folder, data)}")


@app.command()
def collect(
    records: Annotated[list[Path], typer.Argument(help="records.jsonl of the study's runs.")],
    out: Out,
    metrics: Annotated[Path, typer.Option(help="Summary of the study, for DVC.")],
    curve: Annotated[Path, typer.Option(help="The study's curves as CSV, for `dvc plots`.")],
) -> None:
    """Join a study's records, and summarise them in a small JSON file and a CSV of its curves."""
    from ripstop.paper.render import write_curves, write_metrics
    from ripstop.records import collect as join

    joined = join(records, out)
    write_metrics(joined, metrics)
    write_curves(joined, curve)
    print(f"{len(joined)} records of {len(records)} runs in {out}")


@app.command()
def figure(study: Study, records: Records, out: Out) -> None:
    """Draw a study's figure, PDF with a PNG beside it."""
    from ripstop.paper.render import write_figure

    write_figure(study, records, out)


@app.command()
def table(study: Study, records: Records, out: Out) -> None:
    """Write a study's LaTeX table."""
    from ripstop.paper.render import write_table

    write_table(study, records, out)


@app.command()
def numbers(study: Study, records: Records, out: Out) -> None:
    """Write a study's numbers, each with its interval."""
    from ripstop.paper.render import write_numbers

    write_numbers(study, records, out)


@app.command()
def paper_numbers(
    numbers: Numbers,
    out: Out,
    source: Annotated[list[Path], typer.Option(help="A .tex file whose numbers must exist. Repeatable.")] = [],  # noqa: B006
) -> None:
    r"""Write the numbers.tex of the paper: what \val and \valci print, its sections and its provenance."""
    from ripstop.paper.render import write_paper_numbers

    write_paper_numbers(numbers, out, source)


@app.command()
def claims(
    numbers: Numbers,
    scale: Annotated[str, typer.Option(help="The scale whose claims are judged.")],
    out: Out,
    table: Annotated[Path, typer.Option(help="Where to write the LaTeX of the claims table.")],
    registry: Registry = Path("paper/claims.yaml"),
) -> None:
    """Judge every claim by the numbers."""
    from ripstop.claims import write_claims

    write_claims(registry, numbers, scale, out, table)


@app.command()
def verify(
    scale: Annotated[str, typer.Option(help="The scale whose claims are judged.")] = "cpu",
    registry: Registry = Path("paper/claims.yaml"),
    recorded: Annotated[Path, typer.Option(help="The recorded verdicts.")] = Path("paper/verdicts.json"),
    record: Annotated[bool, typer.Option("--record", help="Record the verdicts as they are now.")] = False,
) -> None:
    """Print every claim's verdict; exit status 1 where one flipped against the recorded one."""
    from ripstop.claims import verify as verify_claims

    numbers = sorted(Path("results", scale).glob("*/numbers.json"))
    if not numbers:
        raise ConfigError(f"results/{scale}: holds no numbers.json; run `snakemake paper/tables` at this scale first")
    raise typer.Exit(verify_claims(registry, numbers, scale, recorded, record))


@app.command()
def schema(out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("workflow/schemas")) -> None:
    """Write the JSON schemas of params.yaml and of the overlays, with which an editor completes and checks them."""
    from ripstop.files import write_if_different
    from ripstop.params import schema as make_schema

    for name, overlay in (("params", False), ("scale", True)):
        path = out / f"{name}.schema.json"
        print(f"{path}: {'written' if write_if_different(path, make_schema(overlay)) else 'unchanged'}")


def main() -> None:
    """Run the command; bad input is one sentence on standard error and exit status 2."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("ripstop").setLevel(logging.INFO)  # which backend runs, which positions were derived
    try:
        app()
    except (ConfigError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
