#!/usr/bin/env bash
# Stage 0 of the tiny model: write the synthetic scenes (4 GB, seed 1) and the random starting checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}

python -m btcchat.synthetic --out "$OUT/data/synthetic" \
    --images 32000 --pairs 16000 --series 5000 --videos 3000 --seed 1
python -m btcchat.synthetic.start "$OUT/0_init"
