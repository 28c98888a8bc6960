#!/usr/bin/env bash
# Stage 1 of the 3B model: a fresh change encoder learns on pairs; tower, projector and language model are frozen.
# INCLUDE=localhost:0,1 chooses GPUs; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

deepspeed ${INCLUDE:+--include "$INCLUDE"} btcchat/train/train_mem.py --preset release/3b/change_encoder --deepspeed scripts/zero2.json "$@"
