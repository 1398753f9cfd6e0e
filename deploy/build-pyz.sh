#!/bin/sh
# Builds the whole witness, its packages included, as one file that any Python 3.11+ of this kind of machine starts:
#   sh deploy/build-pyz.sh [OUTPUT] [OPTIONS OF PEX ...]      needs pex: pip install pex
#   python3 zfs-sync.pyz demo
# It unpacks itself at the first start, into PEX_ROOT (by default ~/.cache/pex).
set -eu
cd "$(dirname "$0")/.."
output=${1:-zfs-sync.pyz}
[ $# -eq 0 ] || shift
python3 -m pex -r requirements.txt -P cli@. -P config@. -P handlers@. -P planner@. -P store@. -M zfs_sync@. \
    -e zfs_sync:main -o "$output" "$@"
