# What was measured, as git keeps it: all that is printed follows from these records, on a fresh clone too.
rule collect:
    input:
        parts=parts_of_study,
        code=of_study("paper.code", "records.jsonl"),
    output:
        records=RECORDS,
        origins=ORIGINS,
    log:
        f"{LOGS}/{{study}}/collect.log",
    benchmark:
        f"{BENCHMARKS}/{{study}}/collect.tsv"
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    params:
        records=lambda wildcards, input: [f"{part}/records.jsonl" for part in input.parts],
    shell:
        f"{LOGGED} python -m ripstop collect {{params.records:q}} --out {{output.records:q}}"


# Every figure, table and number of a study, each drawn once; metrics and curves are what DVC shows.
rule render:
    input:
        records=lambda wildcards: records_of(wildcards.study),
        reads=records_read_by_study,
        code=of_study("paper.code", "paper"),
    output:
        paper=report(
            directory(f"{STUDY}/paper"),
            patterns=["figures/{figure}.png"],
            caption="../report/figure.rst",
            category="{study}",
            labels={"scale": "{scale}", "figure": "{figure}"},
        ),
        metrics="results/metrics/{scale}/{study}.json",
        curves="results/metrics/{scale}/{study}.csv",
    log:
        f"{LOGS}/{{study}}/render.log",
    benchmark:
        f"{BENCHMARKS}/{{study}}/render.tsv"
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    params:
        others=lambda wildcards: options("--reads", [f"{s}={records_of(s)}" for s in grid.reads[wildcards.study]]),
        dropped=lambda wildcards: options("--dropped", grid.dropped[wildcards.study]),
    shell:
        f"{LOGGED} python -m ripstop render {{wildcards.study:q}} --records {{input.records:q}} {{params.others}} {{params.dropped}}"
        " --out {output.paper:q} --metrics {output.metrics:q} --curves {output.curves:q}"


# One target a study, for dvc.yaml: snakemake study_mqar_cliff
for study in grid.studies:

    rule:
        name:
            f"study_{study}"
        input:
            f"results/{grid.scale}/{study}/paper",
            f"results/metrics/{grid.scale}/{study}.json",
        localrule: True


# What the paper is made of, from all studies: numbers, claims, tables, figures, and where they come from.
rule assemble:
    input:
        studies=of_every_study(f"{STUDY}/paper"),
        origins=of_every_study(ORIGINS),
        text=["paper/claims.yaml", *SOURCES],
        accepted=ACCEPTED,
        code=lambda wildcards: planned("paper.code", "paper/numbers.tex"),
    output:
        numbers=f"{PAPER}/numbers.tex",
        table=f"{PAPER}/claims.tex",
        appendix=f"{PAPER}/appendix.tex",
        claims=report(
            f"{PAPER}/claims.json",
            caption="../report/claims.rst",
            category="claims",
            labels={"scale": grid.scale, "result": "claims"},
        ),
        tables=directory(f"{PAPER}/tables"),
        figures=directory(f"{PAPER}/figures"),
        sources=directory(f"{PAPER}/sources"),
    log:
        f"{LOGS}/paper/assemble.log".format(scale=grid.scale),
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    params:
        scale=grid.scale,
        out=subpath(output.numbers, parent=True),
    shell:
        f"{LOGGED} python -m ripstop assemble {{input.studies:q}} --scale {{params.scale}} --out {{params.out:q}}"


# Source and generated parts meet on TeX's search path, so that each scale compiles in its own folder. The path is relative:
# a checkout may lie anywhere, and be moved. latexmk takes an auxiliary file for the one before where size and second are the same,
# and may stop one run too early: whether it does must not be seen in the file, so that there is one more (-g).
rule pdf:
    input:
        rules.assemble.output,
        SOURCES,
        "paper/references.bib",
    output:
        f"{PAPER}/main.pdf",
    log:
        f"{LOGS}/paper/pdf.log".format(scale=grid.scale),
    benchmark:
        f"{BENCHMARKS}/paper/pdf.tsv".format(scale=grid.scale)
    localrule: True
    conda:
        "../../envs/paper/environment.yaml"
    params:
        paper=subpath(output[0], parent=True),
        source="../../../paper",
    shell:
        "(cd {params.paper:q} && for more in '' -g; do"
        " TEXINPUTS=.:{params.source}: BIBINPUTS={params.source}: latexmk $more -pdf -latexoption=-no-shell-escape"
        " -interaction=nonstopmode -halt-on-error -file-line-error -auxdir=build {params.source}/main.tex;"
        " done) > {log:q} 2>&1"


# Everything of the scale in force below results/<scale>/paper; paper/ stays as it is.
rule draft:
    input:
        rules.assemble.output,
        rules.pdf.output if LATEX else [],
    localrule: True


# paper/ as a reader sees it.
rule publish:
    input:
        rules.assemble.output,
        rules.pdf.output if LATEX else [],
        numbers=rules.assemble.output.numbers,
    output:
        tables=directory("paper/tables"),
        figures=directory("paper/figures"),
        sources=directory("paper/sources"),
        contents="paper/contents.json",
        pdf="paper/main.pdf" if LATEX else [],
    log:
        f"{LOGS}/paper/publish.log".format(scale=grid.scale),
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    params:
        paper=subpath(input.numbers, parent=True),
    shell:
        f"{LOGGED} python -m ripstop publish {{params.paper:q}}"
