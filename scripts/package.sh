#!/usr/bin/env bash
# What is shipped, into dist/: the static binary, the Debian package, the list of
# what they are made of (SBOM, CycloneDX), and, where a Docker engine answers, the
# image.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

ARCH=$(go env GOARCH)
VERSION=${VERSION:-0.0.0+$(git rev-parse --short HEAD)}
export ARCH VERSION
make --no-print-directory build
bin/idemproxy version | grep -qF " $VERSION " # the binary, and so package and image, say what they are
# With a method that is called by its name (templates do it) the linker keeps all methods.
if [ "$(stat -c %s bin/idemproxy)" -gt $((30 << 20)) ]; then
  echo "bin/idemproxy has more than 30 MiB: see versionFlag in cli/main.go" >&2
  exit 1
fi
rm -rf dist
mkdir -p dist/completion
for shell in bash zsh fish; do bin/idemproxy completion "$shell" >"dist/completion/$shell"; done
gzip -9n <CHANGELOG.md >dist/changelog.gz
nfpm=$(tool nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0)
"$nfpm" package -f deploy/package/nfpm.yaml -p deb -t dist/
sbom=$(tool cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0)
"$sbom" app -json -licenses -main cmd/proxy -output dist/idemproxy.cdx.json .
cp bin/idemproxy "dist/idemproxy-linux-$ARCH"
if command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; then
  mkdir -p dist/image/data
  touch dist/image/data/.keep
  cp bin/idemproxy dist/image/
  docker build -q -f deploy/Dockerfile -t idemproxy:package dist/image
else
  echo "no Docker engine answers: there is no image" >&2
fi
rm -rf dist/completion dist/changelog.gz dist/image
ls -l dist
