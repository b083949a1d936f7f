rule prepare:
    input:
        config=f"{DATA}/config.yaml",
        code=f"{DATA}/prepare.code",
    output:
        f"{DATA}/data.json",
    log:
        f"{LOGS}/{{data}}/prepare.log",
    benchmark:
        f"{BENCHMARKS}/{{data}}/prepare.tsv"
    priority: 10**12  # before any training, so that the longest of all studies can start first
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    resources:
        runtime=60,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        out=subpath(output[0], parent=True),
    shell:
        "workflow/scripts/logged {log} python -m ripstop prepare {input.config} --out {params.out}"
