#!/bin/sh
# Make small films of films. Workers need ffmpeg.
taskfleet map 'ffmpeg -loglevel error -i {} -vf scale=160:-2 {.}.small.mp4' "$@" \
    --outputs '*.small.mp4' --to films/ --timeout 300 --name transcode
