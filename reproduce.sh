#!/usr/bin/env bash
# Everything from nothing: environment, data, every study, tables, figures, paper.
#   ./reproduce.sh                     params.yaml's scale, on this machine
#   SCALE=smoke ./reproduce.sh         another scale (results in results/smoke; paper/ is made from it)
#   ./reproduce.sh --profile slurm     on a cluster; further arguments go to snakemake
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
scale=${SCALE:-$(sed -nE 's/^scale: *([a-z0-9_]+).*/\1/p' params.yaml)}
started=$(date -u +%Y%m%dT%H%M%SZ)
log=results/logs/reproduce-$scale-$started.log
mkdir -p results/logs
export PYTHONUNBUFFERED=1

stamp() { while IFS= read -r line || [[ -n $line ]]; do printf '%(%F %T)T %s\n' -1 "$line"; done; }

# -i, and the trap: Ctrl-C ends Snakemake, not the log of its clean-up.
{
  SECONDS=0
  echo "commit  $(git describe --always --dirty 2>/dev/null || echo none)"
  echo "host    $(hostname), $(nproc) CPUs, $( (nvidia-smi -L 2>/dev/null || true) | wc -l) GPUs"
  echo "scale   $scale"
  make setup
  export PATH=$PWD/.venv/bin:$PATH
  echo "python  $(python --version), snakemake $(snakemake --version), dvc $(dvc --version)"
  echo "set-up took $SECONDS s"
  echo "configuration:"
  cat params.yaml
  rm -rf "results/$scale" "results/metrics/$scale" paper/tables paper/figures paper/main.pdf .snakemake
  SECONDS=0
  snakemake all --config "scale=$scale" "$@"
  echo "everything took $SECONDS s, set-up apart"
  echo "results in results/$scale, tables and figures in paper/, this log in $log"
  python -m ripstop verify --scale "$scale"
} 2>&1 | (trap '' INT; stamp | tee -i "$log")
