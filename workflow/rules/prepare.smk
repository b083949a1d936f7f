rule prepare:
    input:
        of_data("config.yaml", "prepare.code", "local.json"),
    output:
        f"{DATA}/data.json",
    log:
        f"{LOGS}/data/{{data}}.log",
    benchmark:
        f"{BENCHMARKS}/data/{{data}}.tsv"
    priority: 10**30  # before any training, so that the longest of all studies can start first
    # Nearly all data comes over the network, which the nodes of a cluster seldom have.
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    params:
        out=subpath(output[0], parent=True),
    shell:
        f"{LOGGED} python -m ripstop prepare {{params.out:q}}"


# All prepared data of the scale in force, for dvc.yaml. Studies with the same data share it.
rule data:
    input:
        expand(f"{DATA}/data.json", scale=grid.scale, data=grid.data),
    localrule: True
