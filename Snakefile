from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        "paper/tables",
        "paper/figures",
        "paper/main.pdf" if LATEX else [],


include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/paper.smk"


onstart:
    for line in summary():
        print(line)


onsuccess:
    if not LATEX:
        print(NO_LATEX)
