#!/bin/sh
# Makes the fixture anew with the server of c93263c, on SQLite and on PostgreSQL. It takes half a minute.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
old=$(mktemp -d)
trap 'git -C "$here" worktree remove --force "$old/server"; rmdir "$old"' EXIT
git -C "$here" worktree add --quiet --detach "$old/server" c93263c
cp "$here/../../upgrade_test.go" "$here/fill_test.go" "$old/server/internal/apitest/"
cd "$old/server"
FIXTURE=$here go test ./internal/apitest -count=1 -v -run '^TestFill$'
