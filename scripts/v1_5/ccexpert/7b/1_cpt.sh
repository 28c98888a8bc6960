#!/usr/bin/env bash
# Stage 1 of CCExpert 7B: a fresh change encoder and the projector of LLaVA-OneVision learn on CC-Foundation.
# INCLUDE=localhost:0,1 chooses GPUs; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

deepspeed ${INCLUDE:+--include "$INCLUDE"} btcchat/train/train_mem.py --preset ccexpert/7b/1_cpt --deepspeed scripts/zero2.json "$@"
