#!/usr/bin/env bash
# Stage 2 of the tiny model: a fresh change encoder learns to pass on what is there at both dates and what changed.
# The baseline without a change module: CHG_TYPE=concat CHANGE_TOKENS=False OUT_CHANGE=runs/tiny/concat
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}

torchrun --standalone --nproc_per_node 2 -m btcchat.train.train_mem --per_device_train_batch_size 8 \
    --preset tiny/2_change_encoder \
    --model_name_or_path "$OUT/1_align" --data_root "$OUT/data" --output_dir "${OUT_CHANGE:-$OUT}/2_change_encoder" \
    --chg_type "${CHG_TYPE:-Chg2Cap}" \
    --series_change_tokens "${CHANGE_TOKENS:-True}" --video_change_tokens "${CHANGE_TOKENS:-True}" "$@"
