#!/usr/bin/env bash
# Stage 2 of the 3B model: joint instruction tuning on single images, pairs and videos; the language model is trained.
# INCLUDE=localhost:0,1 chooses GPUs; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

deepspeed ${INCLUDE:+--include "$INCLUDE"} btcchat/train/train_mem.py --preset release/3b/sft --deepspeed scripts/zero2_offload.json "$@"
