#!/usr/bin/env bash
# Stage 3 of the tiny model: every part, on every modality together.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}
OUT_CHANGE=${OUT_CHANGE:-$OUT}

python -m btcchat.train.train_mem \
    --model_name_or_path "$OUT_CHANGE/2_change_encoder" --version v1 --data_root "$OUT/data" \
    --data_mixture synthetic_pair+synthetic_image+synthetic_series+synthetic_video \
    --tune_vision_tower True --tune_mm_projector True --tune_language_model True \
    --bf16 True --use_cpu True --output_dir "$OUT_CHANGE/3_llm" \
    --num_train_epochs 1 --per_device_train_batch_size 16 --learning_rate 5e-4 --weight_decay 0.05 \
    --warmup_ratio 0.05 --save_steps 500 --logging_steps 50 "$@"
