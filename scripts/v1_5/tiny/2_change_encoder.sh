#!/usr/bin/env bash
# Stage 2 of the tiny model: a fresh change encoder learns to pass on what stands at both dates; the tower is frozen.
# The baseline without a change module: CHG_TYPE=concat CHANGE_TOKENS=False OUT_CHANGE=runs/tiny/concat
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}
OUT_CHANGE=${OUT_CHANGE:-$OUT}

python -m btcchat.train.train_mem \
    --model_name_or_path "$OUT/1_align" --version v1 --data_mixture synthetic_pair_align --data_root "$OUT/data" \
    --from_origin True --chg_type "${CHG_TYPE:-Chg2Cap}" \
    --series_change_tokens "${CHANGE_TOKENS:-True}" --video_change_tokens "${CHANGE_TOKENS:-True}" \
    --tune_mm_projector True --tune_language_model True \
    --bf16 True --use_cpu True --output_dir "$OUT_CHANGE/2_change_encoder" \
    --num_train_epochs 1 --per_device_train_batch_size 16 --learning_rate 1e-3 --weight_decay 0.05 \
    --warmup_ratio 0.05 --save_steps 500 --logging_steps 50 "$@"
