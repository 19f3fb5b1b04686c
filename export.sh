#!/usr/bin/env bash
# Saves the images and the demo model as files that can be carried to grand-challenge or a hospital, and checks each:
#   dist/uga-inference_VERSION.tar.gz  dist/uga-finetune_VERSION.tar.gz  dist/model.tar.gz
#
# Usage: ./export.sh [OPTION]...
#   --target NAME   inference, finetune, model or all (default: all)
#   --tag TAG       tag of the images (default: the version)
#   --model DIR     model folder for model.tar.gz (default: weights/demo)
#   --output DIR    folder for the files (default: dist)
#   --help
#
# Environment: TAG as the option; DOCKER names the engine (docker or podman); COMPRESS the compressor (default: pigz if
# there is one, else gzip), such as COMPRESS="gzip -1" for speed. An archive appears under its name only after it has
# passed: one image, for linux/amd64, with a numeric user that is not root, and with its labels.
# `docker load -i FILE` loads it; grand-challenge takes it under Algorithm > Containers, model.tar.gz under Models.
set -euo pipefail
cd "$(dirname "$0")"
. containers/common.sh

TARGET=all
MODEL=weights/demo
OUTPUT=dist
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) usage; exit 0 ;;
    --target | --tag | --model | --output) [ $# -gt 1 ] || die "$1 needs a value; see ./export.sh --help." ;;
    *) die "Unknown option $1; see ./export.sh --help." ;;
    esac
    case $1 in
    --target) TARGET=$2 ;;
    --tag) TAG=$2 ;;
    --model) MODEL=$2 ;;
    --output) OUTPUT=$2 ;;
    esac
    shift 2
done
case $TARGET in
all) targets="inference finetune model" ;;
inference | finetune | model) targets=$TARGET ;;
*) die "--target must be inference, finetune, model or all, not $TARGET." ;;
esac
[ -f "$MODEL/model.json" ] || die "$MODEL holds no model.json; name a model folder with --model."
find_engine
for target in $targets; do
    if [ "$target" = model ]; then need_image "uga-inference:$TAG"; else need_image "uga-$target:$TAG"; fi
done
mkdir -p "$OUTPUT"
OUTPUT=$(cd "$OUTPUT" && pwd)
partial=$OUTPUT/.export-$$.tar.gz
trap 'rm -f "$partial"' EXIT
COMPRESS=${COMPRESS:-$(command -v pigz || command -v gzip)}

# Checks run inside an image, so that the host needs no Python.
check() { # IMAGE ARGUMENT...
    local image=$1
    shift
    "$DOCKER" run --rm --interactive --network none --read-only --tmpfs /tmp --entrypoint python --workdir /opt/app \
        --volume "$PWD/containers:/check:ro" --env PYTHONPATH=/opt/app "$image" /check/check_archive.py "$@" < "$partial"
}

save_image() { # TARGET
    local image=uga-$1:$TAG file=$OUTPUT/uga-$1_$TAG.tar.gz method
    local format=()
    if [ -n "$IS_PODMAN" ]; then format=(--format docker-archive); fi
    echo "Saving $image ..."
    "$DOCKER" save "${format[@]}" "$image" | $COMPRESS -c > "$partial"
    method=
    if [ "$1" = inference ]; then method=$(label "$image" org.grand-challenge.api-method); fi
    check "$image" image --title "$(label "$image" org.opencontainers.image.title)" --api-method "$method"
    mv "$partial" "$file"
    echo "$file, $(du -m "$file" | cut -f 1) MB"
}

save_model() {
    echo "Packing $MODEL ..."
    tar --create --gzip --owner 0 --group 0 --numeric-owner --file "$partial" --directory "$MODEL" .
    check "uga-inference:$TAG" model
    mv "$partial" "$OUTPUT/model.tar.gz"
    echo "$OUTPUT/model.tar.gz, $(du -m "$OUTPUT/model.tar.gz" | cut -f 1) MB"
}

for target in $targets; do
    case $target in
    model) save_model ;;
    *) save_image "$target" ;;
    esac
done
