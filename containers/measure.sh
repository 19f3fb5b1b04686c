#!/usr/bin/env bash
# Prints the image's size and the wall time from `docker run` to the first window on test/input/interf0, three times:
# the first run may have to read the image from a cold disk.
#
# Usage: containers/measure.sh [IMAGE]        (default: uga-inference:VERSION)
#
# Needs root, or an engine that maps the container's user, to remove the outputs afterwards.
# Environment: DOCKER names the engine; CONTAINER_ARGS holds more arguments for it.
set -euo pipefail
cd "$(dirname "$0")/.."
. containers/common.sh
case ${1:-} in --help | -h) usage; exit 0 ;; esac
IMAGE=${1:-uga-inference:$TAG}
find_engine
need_image "$IMAGE"
echo "$IMAGE: $(($("$DOCKER" image inspect --format '{{ .Size }}' "$IMAGE") / 1000000)) MB"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
for run in 1 2 3; do
    mkdir "$work/$run"
    chmod 777 "$work/$run"
    start=${EPOCHREALTIME/./}
    # shellcheck disable=SC2086 # words on purpose
    "$DOCKER" run --rm --network none --read-only --tmpfs /tmp ${CONTAINER_ARGS:-} \
        --volume "$PWD/test/input/interf0:/input:ro" --volume "$work/$run:/output" "$IMAGE" --output /output |
        while read -r line; do
            now=${EPOCHREALTIME/./}
            case $line in
            *" windows") echo "run $run: first window after $(((now - start) / 1000)) ms" ;;
            *": done") echo "run $run: done after $(((now - start) / 1000)) ms" ;;
            esac
        done
done
