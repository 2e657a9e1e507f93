#!/bin/sh
# Stands where the demonstration looks for the homeserver's binary and runs it in a container instead.
# What happens to this process happens to the container: a stop is passed on, and when this process is
# killed outright, so is the homeserver.
set -eu

: "${CONTAINER_PODMAN:?}" "${CONTAINER_IMAGE:?}" "${CONTAINER_SHARED:?}"
name="entente-$$"

# A homeserver of the same data folder that was killed a moment ago must be gone first.
for mark in "$CONTAINER_SHARED"/containers/*; do
    [ -e "$mark" ] || continue
    other="$(cat "$mark")"
    kill -0 "${other#entente-}" 2>/dev/null && continue
    # shellcheck disable=SC2086
    $CONTAINER_PODMAN rm --force --time 0 "$other" >/dev/null 2>&1 || true
    rm -f "$mark"
done
mkdir -p "$CONTAINER_SHARED/containers"
printf '%s' "$name" >"$CONTAINER_SHARED/containers/$name"

# The image's user owns nothing outside of it, so what is shared with it becomes its own.
chown -R 65532:65532 "$CONTAINER_SHARED/data"

(
    trap '' TERM INT HUP
    tail --pid="$$" -s 0.05 -f /dev/null
    # shellcheck disable=SC2086
    $CONTAINER_PODMAN kill --signal KILL "$name" >/dev/null 2>&1 || true
) </dev/null >/dev/null 2>&1 &

# shellcheck disable=SC2086
exec $CONTAINER_PODMAN run --rm --name "$name" --network=host --read-only --cap-drop=all \
    --security-opt=no-new-privileges --ulimit nofile=8192:8192 --ulimit nproc=4096:4096 \
    --env 'ENTENTE_*' --volume "$CONTAINER_SHARED/data:$CONTAINER_SHARED/data" --workdir "$PWD" \
    "$CONTAINER_IMAGE" "$@"
