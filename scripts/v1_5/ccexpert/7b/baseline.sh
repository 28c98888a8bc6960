#!/usr/bin/env bash
# LLaVA-OneVision 7B on LEVIR-CC, CCExpert's baseline: both dates in the prompt, no change encoder.
# INCLUDE=localhost:0,1 chooses GPUs; add flags after the name of the script; --resume True resumes an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../../.."

deepspeed ${INCLUDE:+--include "$INCLUDE"} btcchat/train/train_mem.py --preset ccexpert/7b/baseline --deepspeed scripts/zero2.json "$@"
