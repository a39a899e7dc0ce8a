#!/usr/bin/env bash
# Makes the images of docker-compose.yml: ours and Toxiproxy (from its Go module)
# from static binaries, and, where they are neither present nor to be pulled, Redis and
# (with STORE=postgres) PostgreSQL from this system's packages, under the names that the
# file uses.
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
  done
  libraries "$root" "$@"
  tar -C "$root" -c . | docker import -c "ENTRYPOINT $entrypoint" -c 'USER 65532' -c 'WORKDIR /data' - "$name" >/dev/null
  rm -rf "$root"
  # The image that had the name before; one that is in use stays.
  if [ -n "$old" ]; then docker rmi "$old" >/dev/null 2>&1 || true; fi
  echo "made $name"
}

# libraries ROOT FILE...: what FILEs need to run in ROOT.
libraries() {
  local root=$1 file; shift
  for file in "$@"; do
    { ldd "$file" 2>/dev/null | grep -oE '/[^ )]+' || true; } | while read -r lib; do
      [ -e "$root$lib" ] || install -D -m 755 "$lib" "$root$lib"
    done
  done
}

# postgres_image NAME: as much of the official image's manner as docker-compose.yml uses: a
# database for a user, whom everybody may be.
postgres_image() {
  local name=$1 home root
  home=$(dirname "$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")")
  root=$(mktemp -d)
  mkdir -p "$root"/{data,tmp,etc,bin}
  chmod 777 "$root/data" "$root/tmp"
  echo 'postgres:x:65532:65532::/data:/bin/sh' >"$root/etc/passwd"
  (cd / && cp -rL --parents ".$home/bin/initdb" ".$home/bin/postgres" ".$home/lib" "./usr/share/postgresql/$(basename "$home")" "$root")
  rm -rf "$root$home"/lib/{llvmjit*,bitcode} # which need a compiler's libraries
  cp -L /bin/sh "$root/bin/sh"
  libraries "$root" /bin/sh "$home"/bin/{initdb,postgres} "$root$home"/lib/*.so
  cat >"$root/start" <<START
#!/bin/sh
set -e
if [ ! -s /data/pg/PG_VERSION ]; then
  $home/bin/initdb -D /data/pg -U "\$POSTGRES_USER" -A trust -E UTF8 --locale=C
  echo "host all all all trust" >>/data/pg/pg_hba.conf
  echo "CREATE DATABASE \"\$POSTGRES_DB\"" | $home/bin/postgres --single -D /data/pg postgres
fi
exec $home/bin/postgres -D /data/pg -c "listen_addresses=*" -c unix_socket_directories=/tmp
START
  chmod 755 "$root/start"
  tar -C "$root" -c . | docker import -c 'ENTRYPOINT ["/start"]' -c 'USER 65532' -c 'WORKDIR /data' - "$name" >/dev/null
  rm -rf "$root"
  echo "made $name"
}

have() { docker image inspect "$1" >/dev/null 2>&1 || timeout 60 docker pull -q "$1" >/dev/null 2>&1; }

postgres=$(sed -n 's/^ *image: \(postgres:.*\)/\1/p' docker-compose.yml)
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
if [ "${STORE:-redis}" = postgres ] && ! have "$postgres"; then
  needs "ls /usr/lib/postgresql/*/bin/initdb" postgresql
  postgres_image "$postgres"
fi
if ! docker image inspect "$toxiproxy" >/dev/null 2>&1; then
  image "$toxiproxy" '["/usr/local/bin/toxiproxy"]' "$(tool toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0)"
fi
