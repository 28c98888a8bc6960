#!/usr/bin/env bash
# Stage 4 of the tiny model: mostly independent questions, so that it learns to look up one thing; the tower is frozen.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}
OUT_CHANGE=${OUT_CHANGE:-$OUT}

torchrun --standalone --nproc_per_node 2 -m btcchat.train.train_mem --per_device_train_batch_size 16 \
    --preset tiny/4_questions \
    --model_name_or_path "$OUT_CHANGE/3_llm" --data_root "$OUT/data" --output_dir "$OUT_CHANGE/4_questions" "$@"
