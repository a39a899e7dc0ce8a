#!/usr/bin/env bash
# Makes the images of docker-compose.yml: ours and Toxiproxy (from its Go module)
# from static binaries, and, where it is neither present nor to be pulled, Redis
# from this system's package, under the name that the file uses.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

# image NAME ENTRYPOINT FILE...: imports files, with the libraries they need.
image() {
  local name=$1 entrypoint=$2 root old
  shift 2
  old=$(docker image inspect -f '{{.Id}}' "$name" 2>/dev/null || true)
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
  # The image that had the name before; one that is in use stays.
  if [ -n "$old" ]; then docker rmi "$old" >/dev/null 2>&1 || true; fi
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
if ! docker image inspect "$toxiproxy" >/dev/null 2>&1; then
  image "$toxiproxy" '["/usr/local/bin/toxiproxy"]' "$(tool toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0)"
fi
