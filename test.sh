#!/usr/bin/env bash
# Runs the inference image as grand-challenge does, on test/input/interf0, and compares the outputs with
# test/container/expected.json: once in exec mode, once in invoke mode.
#
# The container gets no network, a read-only root and input, an empty /tmp, 8 GB of memory, no capabilities, a user that
# is not root, and a GPU if the host has one.
#
# Usage: ./test.sh [OPTION]...
#   --mode NAME    exec, invoke or both (default: both)
#   --image IMAGE  the image (default: uga-inference:VERSION)
#   --input DIR    another job (default: test/input/interf0); its outputs are checked, but for the expected values
#   --model DIR    model folder to mount on /opt/ml/model, as the platform does with a model tarball
#   --output DIR   keep the outputs below this folder (default: a temporary folder)
#   --update       write test/container/expected.json from the outputs of this run
#   --help
#
# Environment: DOCKER names the engine (docker or podman); CONTAINER_ARGS holds more arguments for it, such as
# CONTAINER_ARGS="-e OMP_NUM_THREADS=2".
set -euo pipefail
cd "$(dirname "$0")"
. containers/common.sh

MODE=both
IMAGE=uga-inference:$TAG
INPUT=test/input/interf0
MODEL=
OUTPUT=
UPDATE=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) usage; exit 0 ;;
    --update) UPDATE=--update; shift; continue ;;
    --mode | --image | --input | --model | --output) [ $# -gt 1 ] || die "$1 needs a value; see ./test.sh --help." ;;
    *) die "Unknown option $1; see ./test.sh --help." ;;
    esac
    case $1 in
    --mode) MODE=$2 ;;
    --image) IMAGE=$2 ;;
    --input) INPUT=$2 ;;
    --model) MODEL=$2 ;;
    --output) OUTPUT=$2 ;;
    esac
    shift 2
done
case $MODE in
both) modes="exec invoke" ;;
exec | invoke) modes=$MODE ;;
*) die "--mode must be exec, invoke or both, not $MODE." ;;
esac
[ -d "$INPUT" ] || die "The input folder $INPUT does not exist."
[ -z "$MODEL" ] || [ -d "$MODEL" ] || die "The model folder $MODEL does not exist."
find_engine
need_image "$IMAGE"

work=$(mktemp -d)
name=uga-test-$$
cleanup() {
    "$DOCKER" rm --force "$name" > /dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
OUTPUT=${OUTPUT:-$work/output}
INPUT=$(cd "$INPUT" && pwd)
mkdir -p "$OUTPUT" "$work/input"
OUTPUT=$(cd "$OUTPUT" && pwd)
chmod 755 "$work" "$work/input"

user=$(id -u):$(id -g)
if [ "$(id -u)" = 0 ]; then user=1000:1000; fi
flags=(--platform linux/amd64 --network none --read-only --tmpfs /tmp --user "$user" --memory 8g --shm-size 128m
    --pids-limit 256 --cap-drop ALL --security-opt no-new-privileges)
if [ -n "$IS_PODMAN" ] && [ "$(id -u)" != 0 ]; then flags+=(--userns keep-id); fi
if command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null 2>&1; then
    if [ -n "$IS_PODMAN" ]; then flags+=(--device nvidia.com/gpu=all); else flags+=(--gpus all); fi
    echo "With the host's GPU."
fi
if [ -n "$MODEL" ]; then flags+=(--volume "$(cd "$MODEL" && pwd):/opt/ml/model:ro"); fi
# shellcheck disable=SC2206 # words on purpose
flags+=(${CONTAINER_ARGS:-})

fresh_output() { # the container's user writes here, whoever started this script
    rm -rf "${OUTPUT:?}/$1"
    mkdir -p "$OUTPUT/$1"
    chmod 777 "$OUTPUT/$1"
}

compare() { # FOLDER; inside the image, so that the host needs no Python
    local arguments=(/outputs/"$1" /check/expected.json)
    if [ "$INPUT" != "$PWD/test/input/interf0" ]; then arguments+=(--structure-only); fi
    "$DOCKER" run --rm --network none --user "$user" --entrypoint python --workdir /opt/app \
        --volume "$PWD/test/container:/check:ro" --volume "$OUTPUT:/outputs:ro" --env PYTHONPATH=/opt/app \
        "$IMAGE" /check/compare.py "${arguments[@]}"
}

run_exec() {
    fresh_output exec
    # The argument takes the place of --serve, which an image for invoke mode has as its command.
    "$DOCKER" run --rm --name "$name" "${flags[@]}" --volume "$INPUT:/input:ro" --volume "$OUTPUT/exec:/output" \
        "$IMAGE" --output /output
    compare exec
}

# A request from inside the container, which has no network: prints the status.
ask() { # METHOD PATH
    "$DOCKER" exec "$name" python -c 'import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 4743)
connection.request(*sys.argv[1:])
print(connection.getresponse().status)' "$@" 2> /dev/null || echo none
}

run_invoke() {
    fresh_output invoke
    "$DOCKER" run --detach --name "$name" "${flags[@]}" --volume "$work/input:/input:ro" \
        --volume "$OUTPUT/invoke:/output" "$IMAGE" --serve > /dev/null
    echo "Waiting for /health ..."
    for attempt in $(seq 300); do
        status=$(ask GET /health)
        [ "$status" != 200 ] || break
        [ "$("$DOCKER" inspect --format '{{ .State.Running }}' "$name")" = true ] && [ "$attempt" -lt 300 ] || {
            "$DOCKER" logs "$name" >&2
            die "The container did not become healthy."
        }
        sleep 1
    done
    cp -R "$INPUT/." "$work/input/" # the platform starts the container before there is an input
    chmod -R a+rX "$work/input"
    status=$(ask POST /invoke)
    "$DOCKER" logs "$name"
    [ "$status" = 201 ] || die "/invoke answered $status, not 201."
    "$DOCKER" stop --time 5 "$name" > /dev/null
    code=$("$DOCKER" inspect --format '{{ .State.ExitCode }}' "$name")
    [ "$code" = 0 ] || die "The idle server ended with exit code $code after SIGTERM."
    "$DOCKER" rm "$name" > /dev/null
    rm -rf "${work:?}/input"/*
    compare invoke
}

for mode in $modes; do
    echo "--- $mode mode"
    "run_$mode"
done
if [ -n "$UPDATE" ]; then
    "$DOCKER" run --rm --network none --user "$user" --entrypoint python --workdir /opt/app --env PYTHONPATH=/opt/app \
        --volume "$PWD/test/container:/check:ro" --volume "$OUTPUT:/outputs:ro" \
        "$IMAGE" /check/compare.py "/outputs/${modes##* }" - --update > "$work/expected.json"
    cp "$work/expected.json" test/container/expected.json
    echo "test/container/expected.json is new."
fi
echo "uga-inference: all as expected ($modes)"
