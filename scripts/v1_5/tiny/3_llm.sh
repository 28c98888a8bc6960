#!/usr/bin/env bash
# Stage 3 of the tiny model: captions and answers, on every modality together; the tower is frozen.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}
OUT_CHANGE=${OUT_CHANGE:-$OUT}

torchrun --standalone --nproc_per_node 2 -m btcchat.train.train_mem --per_device_train_batch_size 8 \
    --preset tiny/3_llm \
    --model_name_or_path "$OUT_CHANGE/2_change_encoder" --data_root "$OUT/data" --output_dir "$OUT_CHANGE/3_llm" "$@"
