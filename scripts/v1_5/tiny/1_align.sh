#!/usr/bin/env bash
# Stage 1 of the tiny model: tower, projector and language model learn to say what stands where in one image.
set -euo pipefail
cd "$(dirname "$0")/../../.."
OUT=${OUT:-runs/tiny}

<<<<<<< HEAD
python -m btcchat.train.train_mem \
    --model_name_or_path "$OUT/0_init" --version v1 --data_mixture synthetic_scenes --data_root "$OUT/data" \
    --tune_vision_tower True --tune_mm_projector True --tune_language_model True \
    --bf16 True --use_cpu True --output_dir "$OUT/1_align" \
    --num_train_epochs 1 --per_device_train_batch_size 16 --learning_rate 1e-3 --weight_decay 0.05 \
    --warmup_ratio 0.05 --save_steps 500 --logging_steps 50 "$@"
=======
python -m btcchat.train.train_mem --preset tiny/1_align \
    --model_name_or_path "$OUT/0_init" --data_root "$OUT/data" --output_dir "$OUT/1_align" "$@"
>>>>>>> 4f37fc3 (Presets are YAML files of flags: btcchat train PRESET, --smoke, and the stages of the 3B model)
