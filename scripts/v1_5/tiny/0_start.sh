#!/usr/bin/env bash
# Stage 0 of the tiny model: write the synthetic scenes (4 GB, seed 1) and the random starting checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}

python -m btcchat.data.synthetic --out "$OUT/data/synthetic_scenes" --images 30000 --seed 1
python -m btcchat.data.synthetic --out "$OUT/data/synthetic" \
    --pairs 14000 --images 3000 --series 1500 --videos 1000 --seed 2
python -m btcchat.train.init_tiny "$OUT/0_init"
