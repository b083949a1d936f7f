rule figure:
    input:
        records=f"{STUDY}/records.jsonl",
        code=f"{STUDY}/paper.code",
    output:
        pdf=f"{STUDY}/figure.pdf",
        png=report(
            f"{STUDY}/figure.png",
            caption="../report/figure.rst",
            category="{study}",
            labels={"scale": "{scale}", "result": "figure"},
        ),
    log:
        f"{LOGS}/figure.log",
    benchmark:
        f"{BENCHMARKS}/figure.tsv"
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    resources:
        runtime=10,
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
    shell:
        "workflow/scripts/logged {log} python -m ripstop figure {wildcards.study}"
        " --records {input.records} --out {output.pdf}"


rule table:
    input:
        records=f"{STUDY}/records.jsonl",
        code=f"{STUDY}/paper.code",
        templates=TEMPLATES,
    output:
        f"{STUDY}/table.tex",
    log:
        f"{LOGS}/table.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    resources:
        runtime=10,
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
    shell:
        "workflow/scripts/logged {log} python -m ripstop table {wildcards.study}"
        " --records {input.records} --out {output}"


rule numbers:
    input:
        records=f"{STUDY}/records.jsonl",
        code=f"{STUDY}/paper.code",
    output:
        report(
            f"{STUDY}/numbers.json",
            caption="../report/numbers.rst",
            category="{study}",
            labels={"scale": "{scale}", "result": "numbers"},
        ),
    log:
        f"{LOGS}/numbers.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    resources:
        runtime=10,
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
    shell:
        "workflow/scripts/logged {log} python -m ripstop numbers {wildcards.study}"
        " --records {input.records} --out {output}"


# One target a study, for dvc.yaml: snakemake study_mqar_cliff
for study in grid.studies:

    rule:
        name:
            f"study_{study}"
        input:
            f"results/metrics/{grid.scale}/{study}.json",
            f"results/{grid.scale}/{study}/figure.pdf",
            f"results/{grid.scale}/{study}/table.tex",
            f"results/{grid.scale}/{study}/numbers.json",
        localrule: True


rule paper_numbers:
    input:
        numbers=of_every_study(f"{STUDY}/numbers.json"),
        sources=SOURCES,
        templates=TEMPLATES,
        code=["src/ripstop/paper/numbers.py", "src/ripstop/paper/render.py"],
    output:
        f"{PAPER}/numbers.tex",
    log:
        f"results/{grid.scale}/logs/paper/numbers.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    params:
        sources=[f"--source {source}" for source in SOURCES],
    shell:
        "workflow/scripts/logged {log} python -m ripstop paper-numbers {input.numbers} --out {output} {params.sources}"


rule claims:
    input:
        numbers=of_every_study(f"{STUDY}/numbers.json"),
        registry="paper/claims.yaml",
        templates=TEMPLATES,
        code=["src/ripstop/claims.py", "src/ripstop/paper/numbers.py"],
    output:
        json=report(
            f"{PAPER}/claims.json",
            caption="../report/claims.rst",
            category="claims",
            labels={"scale": grid.scale, "result": "claims"},
        ),
        table=f"{PAPER}/claims.tex",
    log:
        f"results/{grid.scale}/logs/paper/claims.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    params:
        scale=grid.scale,
    shell:
        "workflow/scripts/logged {log} python -m ripstop claims {input.numbers} --registry {input.registry}"
        " --scale {params.scale} --out {output.json} --table {output.table}"


PARTS = [
    *of_every_study(PAPER_TABLE),
    *of_every_study(PAPER_FIGURE),
    f"{PAPER}/numbers.tex",
    f"{PAPER}/claims.tex",
]


rule paper_table:
    input:
        f"{STUDY}/table.tex",
    output:
        PAPER_TABLE,
    log:
        f"{LOGS}/paper_table.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    shell:
        "cp {input} {output} 2> {log}"


rule paper_figure:
    input:
        f"{STUDY}/figure.pdf",
    output:
        PAPER_FIGURE,
    log:
        f"{LOGS}/paper_figure.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    shell:
        "cp {input} {output} 2> {log}"


# Source and generated parts meet on TeX's search path, so that each scale compiles in its own folder.
rule paper_pdf:
    input:
        PARTS,
        SOURCES,
        "paper/references.bib",
    output:
        f"{PAPER}/main.pdf",
    log:
        f"results/{grid.scale}/logs/paper/pdf.log",
    localrule: True
    conda:
        "../../envs/paper/environment.yaml"
    params:
        paper=subpath(output[0], parent=True),
        source=str(ROOT / "paper"),
    shell:
        "(cd {params.paper} && TEXINPUTS=.:{params.source}: BIBINPUTS={params.source}: latexmk -pdf"
        " -interaction=nonstopmode -halt-on-error -file-line-error -auxdir=build {params.source}/main.tex) > {log} 2>&1"


# Everything of the scale in force below results/<scale>/paper; paper/ stays as it is.
rule draft:
    input:
        PARTS,
        f"{PAPER}/main.pdf" if PDF else [],
    localrule: True


rule paper_tables:
    input:
        of_every_study(PAPER_TABLE),
        f"{PAPER}/claims.tex",
    output:
        directory("paper/tables"),
    log:
        f"results/{grid.scale}/logs/paper/tables.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    shell:
        "(mkdir -p {output} && cp {input} {output}) 2> {log}"


rule paper_figures:
    input:
        of_every_study(PAPER_FIGURE),
    output:
        directory("paper/figures"),
    log:
        f"results/{grid.scale}/logs/paper/figures.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    shell:
        "(mkdir -p {output} && cp {input} {output}) 2> {log}"


rule paper_main:
    input:
        f"{PAPER}/main.pdf",
    output:
        "paper/main.pdf",
    log:
        f"results/{grid.scale}/logs/paper/main.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    shell:
        "cp {input} {output} 2> {log}"
