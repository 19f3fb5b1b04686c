#!/usr/bin/env bash
# Builds the container images uga-inference and uga-finetune.
#
# Usage: ./build.sh [OPTION]...
#   --target NAME        inference, finetune or all (default: all)
#   --base-image IMAGE   base that carries Python and torch (default: the one named in the Dockerfile)
#   --api-method NAME    how grand-challenge starts the inference image: exec or invoke (default: exec)
#   --tag TAG            tag of the images (default: the version)
#   --ca FILE            certificates that pip must trust, on networks that need their own; not kept in the images
#   --help
#
# Environment: BASE_IMAGE, API_METHOD, TAG as the options; DOCKER names the engine (docker or podman).
# Needs the network: pip installs requirements.txt. Running the images needs none.
set -euo pipefail
cd "$(dirname "$0")"
. containers/common.sh

TARGET=all
CA=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) usage; exit 0 ;;
    --target | --base-image | --api-method | --tag | --ca) [ $# -gt 1 ] || die "$1 needs a value; see ./build.sh --help." ;;
    *) die "Unknown option $1; see ./build.sh --help." ;;
    esac
    case $1 in
    --target) TARGET=$2 ;;
    --base-image) BASE_IMAGE=$2 ;;
    --api-method) API_METHOD=$2 ;;
    --tag) TAG=$2 ;;
    --ca) CA=$2 ;;
    esac
    shift 2
done
case $TARGET in
all) targets="inference finetune" ;;
inference | finetune) targets=$TARGET ;;
*) die "--target must be inference, finetune or all, not $TARGET." ;;
esac
case ${API_METHOD:-exec} in
exec | invoke) ;;
*) die "--api-method must be exec or invoke, not $API_METHOD." ;;
esac
[ -z "$CA" ] || [ -s "$CA" ] || die "$CA is not a file with certificates."
find_engine

arguments=(--platform linux/amd64 --build-arg "VERSION=$VERSION" --build-arg "API_METHOD=${API_METHOD:-exec}"
    --build-arg "REVISION=$(git rev-parse HEAD 2> /dev/null || echo unknown)")
[ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
[ -z "$CA" ] || arguments+=(--secret "id=ca,src=$CA")

for target in $targets; do
    echo "Building uga-$target:$TAG ..."
    DOCKER_BUILDKIT=1 "$DOCKER" build "${arguments[@]}" --target "$target" --tag "uga-$target:$TAG" .
done
for target in $targets; do
    size=$("$DOCKER" image inspect --format '{{ .Size }}' "uga-$target:$TAG")
    echo "uga-$target:$TAG, $((size / 1000000)) MB"
done
