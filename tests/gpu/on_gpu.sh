#!/usr/bin/env bash
# Runs a test program on the GPU. Usage: on_gpu.sh PROGRAM. Exit 77: there is none.
nvidia-smi -L > /dev/null 2>&1 || { echo "no GPU: nvidia-smi finds none; skipped"; exit 77; }
PLUQ_TEST_DEVICE=cuda exec "$1"
