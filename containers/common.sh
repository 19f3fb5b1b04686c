# Sourced by build.sh, test.sh and export.sh: names, versions and the container engine.
VERSION=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' uga/__init__.py)
TAG=${TAG:-$VERSION}

die() {
    echo "$*" >&2
    exit 2
}

usage() { # the comment at the head of the script that was called
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

find_engine() {
    if [ -z "${DOCKER:-}" ]; then
        DOCKER=$(command -v docker || command -v podman) ||
            die "No container engine was found; install docker or podman, or name one: DOCKER=/path/to/docker $0"
    fi
    command -v "$DOCKER" > /dev/null || die "$DOCKER does not exist; name a container engine with DOCKER=..."
    "$DOCKER" info > /dev/null 2>&1 ||
        die "$DOCKER does not answer; start its service, see that you may use it, or name another with DOCKER=..."
    IS_PODMAN=
    if "$DOCKER" --version 2> /dev/null | grep -qi podman; then IS_PODMAN=1; fi
}

need_image() {
    "$DOCKER" image inspect "$1" > /dev/null 2>&1 || die "There is no image $1; build it with ./build.sh first."
}

label() { # IMAGE NAME
    "$DOCKER" image inspect --format "{{ index .Config.Labels \"$2\" }}" "$1"
}
