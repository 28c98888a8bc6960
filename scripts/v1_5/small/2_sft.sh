#!/usr/bin/env bash
# Stage 2 of the small model: the language model is trained too.
# Add flags at the end, such as --resume True to resume an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python -m btcchat.train.train_mem --preset small/2_sft "$@"
