#!/usr/bin/env bash
# Records the egress log of a small made-up node: three pods, a world that answers some of them, and the
# kernel's own log of what they did. Run by hand, as root, to make the files of this folder anew.
# Everything happens between network namespaces that this script makes: none has a way out of the machine,
# and all of them, their processes and the temporary folder are gone when it ends, however it ends.
#
# usage: record.sh [OUTPUT_FOLDER]      (default: the folder of this script; about 5 minutes)
set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly HERE
readonly OUTPUT="${1:-$HERE}"
readonly NAME="yjrec$$"
readonly NODE="$NAME-node" WORLD="$NAME-world"

readonly POD_NETWORK=10.244.0.0/24
readonly NODE_IN_PODS=10.244.0.1
readonly HONEST_IP=10.244.0.21 ROGUE_IP=10.244.0.66 MINER_IP=10.244.0.67
readonly DNS_IP=203.0.113.53 HEALTH_IP=203.0.113.80 REFUSING_IP=203.0.113.90 POOL_IP=203.0.113.133
readonly SILENT_IP=203.0.113.99   # nobody has this address
readonly POOL_NAME=pool.example.net POOL_PORT=3333
# name=address of each package server.
readonly PACKAGE_HOSTS=(
  index.pkg.example.org=203.0.113.10 files.pkg.example.org=203.0.113.11
  crates.pkg.example.org=203.0.113.12 npm.pkg.example.org=203.0.113.13
  models.example.com=203.0.113.14 data.example.com=203.0.113.15
)
# Hosts of the scanned network that exist. The first twelve answer SSH, the others refuse every port.
readonly SSH_HOSTS=(5 11 20 34 40 52 77 101 130 164 199 231)
readonly CLOSED_HOSTS=(7 12 21 35 41 53 78 102 131 165 200 232)

readonly MINE_SECONDS=225       # the long session, and how long the honest pod keeps working beside it
readonly DRAIN_SECONDS_MAX=100  # DNS 30 s + one round of the kernel's sweep of dead connections, 60 s, + 10
readonly OUTPUT_BYTES_MAX=1500000

temporary=""
netns_config_made=false

say() { printf 'record: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
inside() { local namespace="$1"; shift; ip netns exec "$namespace" "$@"; }

cleanup() {
  local namespace process
  # A second interrupt must not stop the cleanup half-way.
  trap '' INT TERM HUP
  trap - EXIT
  set +e
  # Only children that still run: the number of one that ended may by now be somebody else's.
  for process in $(jobs -p); do kill "$process" 2>/dev/null; done
  # The namespaces are this run's alone, so whoever is left in them was started here.
  for namespace in $(ip netns list | cut -d' ' -f1 | grep "^$NAME-"); do
    for process in $(ip netns pids "$namespace"); do kill -KILL "$process" 2>/dev/null; done
    ip netns delete "$namespace"
    rm -rf "/etc/netns/$namespace"
  done
  if $netns_config_made; then rmdir /etc/netns 2>/dev/null; fi
  wait 2>/dev/null
  if [ -n "$temporary" ]; then rm -rf "$temporary"; fi
}

# Waits for a state, not for a time: runs the command until it succeeds or the seconds are over.
wait_until() {
  local seconds_max="$1" what="$2" deadline
  shift 2
  deadline=$((SECONDS + seconds_max))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "unable to see $what within $seconds_max s"
    sleep 0.2
  done
}

check_machine() {
  local program
  [ "$(id -u)" = 0 ] || fail "must run as root: it makes network namespaces"
  for program in ip ss sysctl iptables ulogd nmap dnsmasq conntrack socat curl python3 jq timeout; do
    command -v "$program" >/dev/null || fail "unable to find '$program'; on Debian: apt-get install \
iproute2 iptables ulogd2 ulogd2-json nmap dnsmasq-base conntrack socat curl python3 jq procps"
  done
}

# A namespace whose programs ask the recording's own DNS server.
make_namespace() {
  local namespace="$1"
  [ -d /etc/netns ] || netns_config_made=true
  mkdir -p "/etc/netns/$namespace"
  printf 'nameserver %s\noptions timeout:1 attempts:1\n' "$DNS_IP" >"/etc/netns/$namespace/resolv.conf"
  ip netns add "$namespace"
  ip -n "$namespace" link set lo up
}

# As the ptp plugin of CNI does it: one veth pair per pod, the node is the pod's only neighbour.
make_pod() {
  local pod="$1" address="$2" namespace="$NAME-$1"
  make_namespace "$namespace"
  ip -n "$NODE" link add "veth$pod" type veth peer name eth0 netns "$namespace"
  ip -n "$NODE" address add "$NODE_IN_PODS/32" dev "veth$pod"
  ip -n "$NODE" link set "veth$pod" up
  ip -n "$NODE" route add "$address/32" dev "veth$pod"
  ip -n "$namespace" address add "$address/32" dev eth0
  ip -n "$namespace" link set eth0 up
  ip -n "$namespace" route add "$NODE_IN_PODS" dev eth0 scope link
  ip -n "$namespace" route add default via "$NODE_IN_PODS"
}

make_network() {
  make_namespace "$NODE"
  make_namespace "$WORLD"
  inside "$NODE" sysctl -q -w net.ipv4.ip_forward=1
  # The world does not forward: an address that it does not hold stays silent, as a dead one does.
  inside "$WORLD" sysctl -q -w net.ipv4.ip_forward=0
  ip -n "$NODE" link add eth0 type veth peer name eth0 netns "$WORLD"
  ip -n "$NODE" address add 192.0.2.1/30 dev eth0
  ip -n "$WORLD" address add 192.0.2.2/30 dev eth0
  ip -n "$NODE" link set eth0 up
  ip -n "$WORLD" link set eth0 up
  ip -n "$NODE" route add 198.51.100.0/24 via 192.0.2.2
  ip -n "$NODE" route add 203.0.113.0/24 via 192.0.2.2
  ip -n "$WORLD" route add "$POD_NETWORK" via 192.0.2.1
  make_pod honest "$HONEST_IP"
  make_pod rogue "$ROGUE_IP"
  make_pod miner "$MINER_IP"
}

# Not through inside(): the process must be this shell's own child, so that it can be waited for.
start() {
  local namespace="$1" log="$2"
  shift 2
  ip netns exec "$namespace" "$@" >"$temporary/$log.log" 2>&1 </dev/null &
}

# Two stacks, one file: each line is flushed as it is written, so lines of both never mix.
# The kernel ends a scan's unanswered connections in one burst: with ulogd's own buffer size some of their
# events were lost, hence the larger one.
start_log() {
  local plugins
  plugins="$(dirname "$(find /usr/lib -name ulogd_inppkt_NFLOG.so | head -n 1)")"
  [ -e "$plugins/ulogd_output_JSON.so" ] || fail "unable to find ulogd's JSON plugin; install ulogd2-json"
  cat >"$temporary/ulogd.conf" <<CONFIGURATION
[global]
logfile="stdout"
loglevel=3
plugin="$plugins/ulogd_inppkt_NFLOG.so"
plugin="$plugins/ulogd_inpflow_NFCT.so"
plugin="$plugins/ulogd_raw2packet_BASE.so"
plugin="$plugins/ulogd_filter_IFINDEX.so"
plugin="$plugins/ulogd_filter_IP2STR.so"
plugin="$plugins/ulogd_output_JSON.so"
stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,json1:JSON
stack=ct1:NFCT,ip2str2:IP2STR,json2:JSON
[log1]
group=7
netlink_qthreshold=1
[ct1]
hash_enable=0
netlink_socket_buffer_size=4194304
netlink_socket_buffer_maxsize=16777216
[json1]
sync=1
file="$temporary/egress.jsonl"
[json2]
sync=1
file="$temporary/egress.jsonl"
CONFIGURATION
  inside "$NODE" sysctl -q -w net.netfilter.nf_conntrack_acct=1
  inside "$NODE" sysctl -q -w net.netfilter.nf_conntrack_timestamp=1
  # Kernel defaults are 120 s each: shortened so that the ends of connections fall inside the recording.
  inside "$NODE" sysctl -q -w net.netfilter.nf_conntrack_tcp_timeout_syn_sent=20
  inside "$NODE" sysctl -q -w net.netfilter.nf_conntrack_tcp_timeout_time_wait=10
  TZ=UTC start "$NODE" ulogd ulogd -c "$temporary/ulogd.conf" -p "$temporary/ulogd.pid"
  wait_until 10 "ulogd's netlink socket" inside "$NODE" grep -q '[0-9]' /proc/net/netfilter/nfnetlink_log
  inside "$NODE" iptables -I FORWARD -s "$POD_NETWORK" -m conntrack --ctstate NEW -j NFLOG --nflog-group 7
}

make_packages() {
  local number root="$temporary/www"
  mkdir -p "$root"
  for number in $(seq -w 1 20); do
    head -c $((2000 + 10#$number * 9700)) /dev/urandom >"$root/small-$number.tar.gz"
  done
  for number in 1 2 3; do head -c $((number * 2000000)) /dev/urandom >"$root/big-$number.bin"; done
  printf 'ok\n' >"$root/healthz"
}

serve_world() {
  local entry host port records=()
  ip -n "$WORLD" address add "$DNS_IP/32" dev lo
  ip -n "$WORLD" address add "$HEALTH_IP/32" dev lo
  ip -n "$WORLD" address add "$REFUSING_IP/32" dev lo
  ip -n "$WORLD" address add "$POOL_IP/32" dev lo
  for entry in "${PACKAGE_HOSTS[@]}"; do
    ip -n "$WORLD" address add "${entry#*=}/32" dev lo
    records+=("--host-record=${entry%=*},${entry#*=}")
  done
  for host in "${SSH_HOSTS[@]}" "${CLOSED_HOSTS[@]}"; do
    ip -n "$WORLD" address add "198.51.100.$host/32" dev lo
  done
  # No upstream servers: names outside the records do not exist.
  start "$WORLD" dnsmasq dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts \
    --bind-interfaces --listen-address="$DNS_IP" --user=root --pid-file= --log-facility=- \
    --local=/example.com/example.net/example.org/ "${records[@]}" --host-record="$POOL_NAME,$POOL_IP"
  for entry in "${PACKAGE_HOSTS[@]}"; do
    start "$WORLD" "http-${entry%=*}" python3 -m http.server 80 --bind "${entry#*=}" --directory "$temporary/www"
  done
  start "$WORLD" http-health python3 -m http.server 8080 --bind "$HEALTH_IP" --directory "$temporary/www"
  start "$WORLD" pool python3 "$HERE/stratum.py" serve "$POOL_IP" "$POOL_PORT"
  for host in "${SSH_HOSTS[@]}"; do
    start "$WORLD" "ssh-$host" socat "TCP-LISTEN:22,bind=198.51.100.$host,reuseaddr,fork" \
      'SYSTEM:echo SSH-2.0-OpenSSH_9.6'
  done
  for port in 80 443 3306 8080; do
    start "$WORLD" "open-$port" socat "TCP-LISTEN:$port,bind=198.51.100.20,reuseaddr,fork" 'SYSTEM:cat'
  done
}

listening() { [ "$(inside "$WORLD" ss -H -l -n -t | wc -l)" -ge "$1" ]; }

play_traffic() {
  local honest rogue miner failed=0
  start "$NAME-honest" honest timeout 290 bash "$HERE/honest.sh" "$MINE_SECONDS" "$HEALTH_IP:8080" \
    "$REFUSING_IP" "$SILENT_IP" "${PACKAGE_HOSTS[@]%=*}"
  honest=$!
  start "$NAME-miner" miner timeout 290 python3 "$HERE/stratum.py" mine "$POOL_NAME" "$POOL_PORT" "$MINE_SECONDS"
  miner=$!
  start "$NAME-rogue" rogue timeout 290 bash "$HERE/rogue.sh" "${PACKAGE_HOSTS[@]%=*}"
  rogue=$!
  wait "$rogue" || failed=1
  say "the rogue pod is done: $(grep -c '^Nmap done' "$temporary/rogue.log") nmap runs"
  wait "$miner" || failed=1
  wait "$honest" || failed=1
  if [ "$failed" != 0 ]; then
    tail -n 5 "$temporary/honest.log" "$temporary/miner.log" "$temporary/rogue.log" >&2
    fail "failed to play the traffic"
  fi
  say "honest pod: $(tail -n 1 "$temporary/honest.log"); miner-like pod: $(tail -n 1 "$temporary/miner.log")"
}

# Waits until the kernel has reported the end of every connection.
drain() {
  local deadline=$((SECONDS + DRAIN_SECONDS_MAX))
  while [ "$(inside "$NODE" conntrack -C)" != 0 ] && [ "$SECONDS" -lt "$deadline" ]; do sleep 1; done
  say "connections still open after the drain: $(inside "$NODE" conntrack -C)"
}

# Each line must have what a decoder needs, and no event may be missing.
check_recording() {
  local log="$temporary/egress.jsonl" bytes begun ended
  jq -e -n 'reduce inputs as $l (true; . and ($l | has("timestamp") and has("src_ip") and has("dest_ip") and
    (has("oob.prefix") or (has("ct.event") and has("ct.id") and has("orig.raw.pktcount")
      and has("reply.raw.pktcount")))))' "$log" >/dev/null || fail "unable to find the expected fields in the log"
  begun="$(jq -c 'select(."ct.event" == 1) | ."ct.id"' "$log" | wc -l)"
  ended="$(jq -c 'select(."ct.event" == 4) | ."ct.id"' "$log" | wc -l)"
  if [ "$begun" = 0 ] || [ "$begun" != "$ended" ]; then
    fail "connections begun: $begun, ended: $ended; want the same, more than none"
  fi
  bytes="$(stat -c %s "$log")"
  [ "$bytes" -le "$OUTPUT_BYTES_MAX" ] || fail "the log has $bytes bytes, more than $OUTPUT_BYTES_MAX: shorten the traffic"
}

write_labels() {
  jq -n --arg honest "$HONEST_IP" --arg rogue "$ROGUE_IP" --arg miner "$MINER_IP" '
    [inputs] as $lines
    | def entry($ip; $kind; $note):
        [$lines[] | select(."ct.event" == 4 and .src_ip == $ip)] as $mine
        | { capture: "egress", label: $kind, subjects: [$ip], connections: ($mine | length),
            seconds: (($mine | map(."flow.end.sec") | max) - ($mine | map(."flow.start.sec") | min)),
            dns: 0, tls_names: 0, licence: "Apache-2.0 (recorded by this project)", note: $note,
            originators: 1 };
    [ entry($rogue; "scan"; "a few downloads, then nmap connect scans: a /24 on one port, a /28 on three, 60 ports of one host"),
      entry($miner; "mining"; "one long Stratum session with the pool of pools.txt, 203.0.113.133:3333"),
      entry($honest; "benign"; "downloads, health checks, names that do not exist, two dead dependencies retried all the time") ]
  ' "$temporary/egress.jsonl" >"$temporary/labels.json"
}

# A refusal is a reply of one bare reset, 40 bytes. One packet of 60 bytes is a SYN-ACK: the scanner's
# connect succeeded and its own reset followed.
print_figures() {
  jq -n -r '
    def refused: ."reply.raw.pktcount" == 1 and ."reply.raw.pktlen" == 40;
    [inputs] as $lines
    | ($lines | map(.src_ip) | unique)[] as $ip
    | [$lines[] | select(.src_ip == $ip)] as $mine
    | [$mine[] | select(has("oob.prefix"))] as $packets
    | [$mine[] | select(."ct.event" == 4)] as $ended
    | [$ended[] | select(."orig.ip.protocol" == 6)] as $tcp
    | "\($ip): \($mine | length) lines (\($packets | length) NFLOG), \($ended | length) connections, "
      + "\($packets | map("\(.dest_ip):\(.dest_port)/\(."ip.protocol")") | unique | length) distinct targets; "
      + "\($tcp | length) TCP: \($tcp | map(select(."reply.raw.pktcount" > 0 and (refused | not))) | length) answered, "
      + "\($tcp | map(select(refused)) | length) refused, "
      + "\($tcp | map(select(."reply.raw.pktcount" == 0)) | length) silent"
  ' "$temporary/egress.jsonl"
  printf 'total: %s lines, %s bytes\n' "$(wc -l <"$temporary/egress.jsonl")" "$(stat -c %s "$temporary/egress.jsonl")"
}

main() {
  check_machine
  trap cleanup EXIT
  trap 'exit 130' INT TERM HUP
  temporary="$(mktemp -d)"
  make_network
  make_packages
  serve_world
  wait_until 30 "the world's listeners" listening $((1 + ${#PACKAGE_HOSTS[@]} + 2 + ${#SSH_HOSTS[@]} + 4))
  start_log
  say "recording for about $((MINE_SECONDS + 60)) s"
  play_traffic
  drain
  check_recording
  write_labels
  mkdir -p "$OUTPUT"
  cp "$temporary/egress.jsonl" "$temporary/labels.json" "$OUTPUT/"
  printf '%s\n' "$POOL_NAME" >"$OUTPUT/pools.txt"
  print_figures
}

main
