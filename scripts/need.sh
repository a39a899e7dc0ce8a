# Sourced by the other scripts: finds what they need, or installs it.

# need COMMAND PACKAGE: COMMAND is on PATH afterwards, or the script ends.
need() {
  needs "command -v $1" "$2"
}

# needs PROBE PACKAGE: the command PROBE succeeds afterwards, or the script ends.
needs() {
  eval "$1" >/dev/null 2>&1 && return 0
  local root=""
  if [ "$(id -u)" != 0 ]; then
    root=sudo
    command -v sudo >/dev/null || { echo "this fails: $1: install the package $2" >&2; return 1; }
  fi
  command -v apt-get >/dev/null || { echo "this fails: $1: install $2 with your package manager" >&2; return 1; }
  echo "installing $2, since this fails: $1" >&2
  $root apt-get update -qq >&2
  # The package must not start a server of its own.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $root apt-get install -y -qq --no-install-recommends "$2" >&2
  eval "$1" >/dev/null 2>&1
}

# unpack DIR PACKAGE...: files of Debian's packages are in DIR, for a program that is not Debian's.
unpack() {
  local dir=$1 tmp; shift
  tmp=$(mktemp -d)
  (cd "$tmp" && apt-get download -qq "$@" >&2 && for deb in *.deb; do dpkg -x "$deb" root; done)
  mkdir -p "$dir" && cp -r "$tmp"/root/. "$dir" && rm -r "$tmp"
}

# need_node_pg: node has node-postgres afterwards. Not every node can be had together with Debian's modules.
need_node_pg() {
  export NODE_PATH=$PWD/bin/node/usr/share/nodejs:/usr/share/nodejs
  node -e 'require("pg")' 2>/dev/null || unpack bin/node node-pg node-split2 node-xtend
}

# engine: a Docker engine answers, and there is a compose.
engine() {
  command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1 && compose version >/dev/null 2>&1
}

compose() {
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

# tool NAME PACKAGE@VERSION: prints the path of a Go tool, built once.
tool() {
  local path="bin/tools/$1-${2##*@}"
  if [ ! -x "$path" ]; then
    mkdir -p bin/tools
    local tmp; tmp=$(mktemp -d)
    GOFLAGS='' GOBIN="$tmp" CGO_ENABLED=0 go install "$2" >&2
    mv "$tmp"/* "$path"
    rmdir "$tmp"
  fi
  echo "$path"
}
