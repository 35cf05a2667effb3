#!/bin/sh
# Compress files and bring the results back into the folder `compressed`.
taskfleet map 'gzip -9 --keep {}' "$@" --outputs '*.gz' --to compressed/ --name compress
