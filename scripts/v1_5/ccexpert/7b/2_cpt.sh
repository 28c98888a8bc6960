#!/usr/bin/env bash
# Stage 2 of CCExpert 7B: everything is trained on CC-Foundation, the vision tower at a rate of its own.
# INCLUDE=localhost:0,1 chooses GPUs; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

deepspeed ${INCLUDE:+--include "$INCLUDE"} btcchat/train/train_mem.py --preset ccexpert/7b/2_cpt --deepspeed scripts/zero2.json "$@"
