#!/usr/bin/env bash
# Two hosts on this machine, network namespaces joined by a pair of virtual interfaces:
# `namespaces.sh DIR COMMAND…` starts the command by Open MPI, one process on each, with TCP between them.
# Needs root, Debian's iproute2 and openmpi-bin; exit code 77 where they are missing or not allowed.
set -eu
dir="$(mkdir -p "$1" && cd "$1" && pwd)"
shift
for program in ip mpirun; do
    command -v "$program" >/dev/null || { echo "no $program" >&2; exit 77; }
done
one="meta$$a" two="meta$$b"
clean() {
    ip netns del "$one" 2>/dev/null || true
    ip netns del "$two" 2>/dev/null || true
}
trap clean EXIT
ip netns add "$one" 2>/dev/null || { echo "no network namespaces here" >&2; exit 77; }
ip netns add "$two"
ip link add "v$$a" netns "$one" type veth peer name "v$$b" netns "$two"
for host in "$one a 1" "$two b 2"; do
    read -r namespace end number <<<"$host"
    ip -n "$namespace" address add "10.77.0.$number/24" dev "v$$$end"
    ip -n "$namespace" link set "v$$$end" up
    ip -n "$namespace" link set lo up
done
# What Open MPI starts its daemon on the second host with, in the place of ssh: HOST COMMAND…
cat >"$dir/agent" <<AGENT
#!/usr/bin/env bash
shift
exec ip netns exec "$two" bash -c "\$*"
AGENT
chmod +x "$dir/agent"
ip netns exec "$one" mpirun --allow-run-as-root --mca plm_rsh_agent "$dir/agent" --mca btl tcp,self \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 --bind-to none \
    --host 10.77.0.1:1,10.77.0.2:1 -n 2 "$@"
