#!/usr/bin/env bash
# Makes the images of docker-compose.yml: ours from static binaries, and, where
# they are neither present nor to be pulled, Redis (from this system's package)
# and Toxiproxy (from its Go module) under the names that the file uses.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

# image NAME ENTRYPOINT FILE...: imports files, with the libraries they need.
image() {
  local name=$1 entrypoint=$2 root
  shift 2
  root=$(mktemp -d)
  mkdir -p "$root"/{data,tmp,etc}
  echo 'idemproxy:x:65532:65532::/data:/' >"$root/etc/passwd"
  chmod 777 "$root/data" "$root/tmp"
  for file in "$@"; do
    install -D -m 755 "$file" "$root/usr/local/bin/$(basename "$file" | sed 's/-v[0-9.]*$//')"
    { ldd "$file" 2>/dev/null | grep -oE '/[^ )]+' || true; } | while read -r lib; do
      install -D -m 755 "$lib" "$root$lib"
    done
  done
  tar -C "$root" -c . | docker import -c "ENTRYPOINT $entrypoint" -c 'USER 65532' -c 'WORKDIR /data' - "$name" >/dev/null
  rm -rf "$root"
  echo "made $name"
}

have() { docker image inspect "$1" >/dev/null 2>&1 || timeout 60 docker pull -q "$1" >/dev/null 2>&1; }

redis=$(sed -n 's/^ *image: \(redis:.*\)/\1/p' docker-compose.yml)
toxiproxy=$(sed -n 's/^ *image: \(.*toxiproxy:.*\)/\1/p' docker-compose.yml)
make --no-print-directory build
image idemproxy:local '["/usr/local/bin/idemproxy"]' bin/idemproxy
image idemproxy-backend:local '["/usr/local/bin/backend"]' bin/backend
if ! have "$redis"; then
  need redis-server redis-server
  # Debian's redis-server is a link to redis-check-rdb's twin; follow it.
  binary=$(mktemp -d)/redis-server
  cp -L "$(command -v redis-server)" "$binary"
  image "$redis" '["/usr/local/bin/redis-server","--protected-mode","no"]' "$binary"
fi
if ! have "$toxiproxy"; then
  image "$toxiproxy" '["/usr/local/bin/toxiproxy"]' "$(tool toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0)"
fi
