#!/usr/bin/env bash
# Stage 2 with LoRA: adapters in the language model; change encoder and projector are trained along with them.
# INCLUDE=localhost:0,1 chooses GPUs; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

deepspeed ${INCLUDE:+--include "$INCLUDE"} btcchat/train/train_mem.py --preset release/3b/sft_lora --deepspeed scripts/zero2.json "$@"
