#!/usr/bin/env bash
# Stage 3 of CCExpert 0.5B: 50 epochs of LEVIR-CC, one of the captions of a pair, drawn again each epoch.
# INCLUDE=localhost:0,1 chooses GPUs; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

deepspeed ${INCLUDE:+--include "$INCLUDE"} btcchat/train/train_mem.py --preset ccexpert/0.5b/3_sft --deepspeed scripts/zero2.json "$@"
