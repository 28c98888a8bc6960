#!/usr/bin/env bash
# Stage 1 of the tiny model: tower, projector and language model learn to say what is where in one image.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}

torchrun --standalone --nproc_per_node 2 -m btcchat.train.train_mem --per_device_train_batch_size 8 \
    --preset tiny/1_align \
    --model_name_or_path "$OUT/0_init" --data_root "$OUT/data" --output_dir "$OUT/1_align" "$@"
