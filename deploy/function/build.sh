#!/bin/sh
# Gathers what a function needs in build/function/: the program and its packages, for Lambda's Python 3.13 on arm64.
#   sh deploy/function/build.sh [OPTIONS OF PIP ...]      other options than these replace them, for another platform
set -eu
cd "$(dirname "$0")/../.."
output=build/function
[ $# -gt 0 ] || set -- --python-version 3.13 --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
    --only-binary=:all:
rm -rf "$output"
mkdir -p "$output/deploy"
cp -R zfs_sync.py config cli handlers planner store "$output/"
cp -R deploy/function "$output/deploy/"
python3 -m pip install -q --disable-pip-version-check -t "$output" -r requirements.txt -r deploy/function/requirements.txt "$@"
find "$output" -name __pycache__ -prune -exec rm -rf {} +
du -sh "$output"
