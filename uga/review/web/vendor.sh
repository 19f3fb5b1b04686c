#!/usr/bin/env bash
# Copies the pinned third-party code of the reviewer's page into static/vendor, with its licence. Needs npm, and the
# network once. The copies are committed, so neither an installation nor a run fetches anything.
#
# To take another version: change package.json, run `npm install --package-lock-only` here, run this, look at the page,
# run the browser tests, commit all of it.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund
target=../static/vendor/openseadragon
rm -rf "$target"
mkdir -p "$target"
# Without the comment that names a source map, which is not shipped.
sed '/^\/\/# sourceMappingURL=/d' node_modules/openseadragon/build/openseadragon/openseadragon.min.js > "$target/openseadragon.min.js"
cp node_modules/openseadragon/LICENSE.txt "$target/LICENSE.txt"
rm -rf node_modules
