#!/usr/bin/env bash
# From packages to the table, without a hub: offline.sh DATA OUT [flags of cross_validate.py].
# DATA: a folder of LEVIR-CC with masks. OUT gets parts/, runs.jsonl, report.md; the same command resumes a stopped run.
set -euo pipefail
DATA=$(realpath "$1")
mkdir -p "$2"
OUT=$(realpath "$2")
shift 2
cd "$(dirname "$0")/../../.."
export PYTHONPATH=$PWD:$PWD/examples/efficientnet_tower${PYTHONPATH:+:$PYTHONPATH}

python scripts/v1_5/small/offline_parts.py "$OUT/parts"
python scripts/v1_5/small/cross_validate.py "$DATA" "$OUT/parts" "$OUT" "$@"
python scripts/v1_5/small/report.py "$DATA" "$OUT"
