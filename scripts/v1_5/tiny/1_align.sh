#!/usr/bin/env bash
# Stage 1 of the tiny model: everything learns to name what one image shows. Needs OUT/0_init (btcchat.train.init_tiny).
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}

python -m btcchat.train.train_mem \
    --model_name_or_path "$OUT/0_init" --version plain --data_mixture synthetic_align \
    --tune_vision_tower True --tune_mm_projector True --tune_language_model True \
    --bf16 True --use_cpu True --output_dir "$OUT/1_align" \
    --num_train_epochs 1 --per_device_train_batch_size 32 --learning_rate 1e-3 --weight_decay 0.01 \
    --lr_scheduler_type cosine --warmup_ratio 0.03 --save_steps 500 --logging_steps 20 "$@"
