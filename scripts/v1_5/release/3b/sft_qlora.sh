#!/usr/bin/env bash
# Stage 2 with QLoRA: as sft_lora, the frozen weights of the language model in 4 bits; for one GPU.
# CUDA_VISIBLE_DEVICES=0 chooses it; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

python -m btcchat.train.train_mem --preset release/3b/sft_qlora "$@"
