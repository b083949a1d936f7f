from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        "paper/tables",
        "paper/figures",
        PDF,


include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/paper.smk"


onstart:
    print(f"scale {grid.scale}: {', '.join(f'{study} {len(runs)} runs' for study, runs in grid.runs.items())}")
    print(f"results in results/{grid.scale}, logs in results/{grid.scale}/logs, the paper in {PAPER} and paper/")


onsuccess:
    if NO_LATEX:
        print(NO_LATEX)
