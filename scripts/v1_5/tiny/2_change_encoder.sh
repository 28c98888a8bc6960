#!/usr/bin/env bash
# Stage 2 of the tiny model: a fresh change encoder learns to tell the two dates of a pair apart. CHG_TYPE=concat: none.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}

python -m btcchat.train.train_mem \
    --model_name_or_path "$OUT/1_align" --version v1 --data_mixture synthetic_pair \
    --from_origin True --chg_type "${CHG_TYPE:-Chg2Cap}" --cc_n_layers 0 --cc_head 8 --cc_dropout 0.0 \
    --tune_cc_projector True --tune_single_projector True --tune_language_model True \
    --bf16 True --use_cpu True --output_dir "$OUT/2_change_encoder" \
    --num_train_epochs 1 --per_device_train_batch_size 32 --learning_rate 1e-3 --weight_decay 0.01 \
    --lr_scheduler_type cosine --warmup_ratio 0.03 --save_steps 500 --logging_steps 20 "$@"
