#!/usr/bin/env bash
# Stage 1 of the small model: a fresh change encoder and projector between pretrained, frozen parts.
# Add flags at the end, such as --resume True to resume an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python -m btcchat.train.train_mem --preset small/1_change_encoder "$@"
