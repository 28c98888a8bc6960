#!/usr/bin/env bash
# Both stages of the small model in one.
# Add flags at the end, such as --resume True to resume an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/../../.."

python -m btcchat.train.train_mem --preset small/levir_cc "$@"
