#!/usr/bin/env python3
"""Writes the sample logs of this folder anew. README.md says what is in them."""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
START = 1795514400  # 2026-11-24T10:00:00Z


def write(path, lines):
    (HERE / path).write_text("".join(line + "\n" for line in lines))


# --- AWS VPC ----------------------------------------------------------------------------------

VPC_FIELDS = (
    "version account-id interface-id srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr "
    "protocol packets bytes start end action tcp-flags log-status flow-direction traffic-path"
)


def vpc(second, source, destination, packets, size, action="ACCEPT", flags="2", direction="egress", protocol=6):
    (src, sport), (dst, dport) = source, destination
    start = START + second
    return (
        f"5 123456789012 eni-0a1b2c {src} {dst} {sport} {dport} {src} {dst} {protocol} {packets} {size} "
        f"{start} {start + 40} {action} {flags} OK {direction} 8"
    )


def vpc_default(second, source, destination, packets, size, action="ACCEPT", protocol=6):
    (src, sport), (dst, dport) = source, destination
    start = START + second
    return (
        f"2 123456789012 eni-0a1b2c {src} {dst} {sport} {dport} {protocol} {packets} {size} "
        f"{start} {start + 40} {action} OK"
    )


def vpc_scan():
    yield VPC_FIELDS
    for n in range(60):
        scanner, target = ("10.0.1.5", 40000 + n), (f"198.51.100.{n + 1}", 23)
        if n % 6 == 5:  # refused, and rejected by a security group
            yield vpc(n, scanner, target, 1, 60)
            yield vpc(n, target, scanner, 1, 40, flags="4", direction="ingress")
        elif n % 6 == 4:
            yield vpc(n, scanner, target, 1, 60, action="REJECT")
        else:
            yield vpc(n, scanner, target, 7, 420)
        # A neighbour that fetches pages, and a server with one more client.
        client, site = ("10.0.1.6", 41000 + n), (f"203.0.113.{n + 1}", 443)
        yield vpc(n, client, site, 12, 1900, flags="3")
        yield vpc(n, site, client, 14, 9100, flags="19", direction="ingress")
        yield vpc(n, ("10.0.1.80", 8080), ("10.0.9.9", 42000 + n), 14, 9100, flags="19")
    yield f"5 123456789012 eni-0d4e5f - - - - - - - - - {START} {START + 60} - - NODATA - -"


def vpc_honest():
    for n in range(120):
        yield vpc_default(n, ("10.0.1.80", 8080), ("10.0.9.9", 33000 + 7 * n), 14, 9100)
        yield vpc_default(n, ("10.0.9.9", 33000 + 7 * n), ("10.0.1.80", 8080), 12, 1900)
        yield vpc_default(n, ("10.0.1.6", 41000 + n), ("10.0.0.2", 53), 1, 70, protocol=17)
        yield vpc_default(n, ("10.0.0.2", 53), ("10.0.1.6", 41000 + n), 1, 170, protocol=17)
        # The same dead service again and again.
        yield vpc_default(n, ("10.0.1.6", 43000 + n), ("10.0.5.5", 5432), 1, 60, action="REJECT")
        # Answers that a network ACL does not let out.
        yield vpc_default(n, ("10.0.1.80", 8080), ("192.0.2.9", 33000 + n), 2, 120, action="REJECT")
    yield f"2 123456789012 eni-0d4e5f - - - - - - - {START} {START + 60} - SKIPDATA"


# --- Calico -----------------------------------------------------------------------------------


def calico(second, pod, source, target, port, counts, **other):
    packets_out, bytes_out, packets_in, bytes_in = counts
    record = {
        "start_time": START + second,
        "end_time": START + second + 300,
        "source_ip": source,
        "source_name": pod,
        "source_name_aggr": f"{pod[:-6]}-*",
        "source_namespace": "research",
        "source_port": None,
        "source_type": "wep",
        "dest_ip": target,
        "dest_name": "-",
        "dest_name_aggr": "pub",
        "dest_namespace": "-",
        "dest_port": port,
        "dest_type": "net",
        "dest_domains": None,
        "proto": "tcp",
        "action": "allow",
        "reporter": "src",
        "packets_out": packets_out,
        "bytes_out": bytes_out,
        "packets_in": packets_in,
        "bytes_in": bytes_in,
        "num_flows": 1,
        "num_flows_started": 1,
        "num_flows_completed": 1,
        "host": "node-1",
    }
    record.update(other)
    return json.dumps(record, separators=(",", ":"))


def calico_scan():
    for n in range(60):
        target = f"10.48.3.{n + 1}"
        if n % 3 == 2:
            counts, other = (3, 180, 0, 0), {}
        else:
            counts, other = (2, 120, 0, 0), {"action": "deny", "num_flows": 2, "num_flows_started": 2}
        yield calico(n * 300, "prober-7c9-x2x4x", "10.48.1.5", target, 6379, counts, **other)
        # What the target's node says about a flow that was let through.
        if n % 3 == 2:
            yield calico(n * 300, "prober-7c9-x2x4x", "10.48.1.5", target, 6379, (0, 0, 3, 180), reporter="dst")
        yield calico(n * 300, "agent-5d8-q7m2n", "10.48.1.6", f"203.0.113.{n + 1}", 443, (12, 1900, 14, 9100))


def calico_honest():
    for n in range(60):
        yield calico(n * 300, "agent-5d8-q7m2n", "10.48.1.6", f"203.0.113.{n + 1}", 443, (12, 1900, 14, 9100))
        yield calico(n * 300, "agent-5d8-q7m2n", "10.48.1.6", "10.48.9.9", 5432, (2, 120, 0, 0), action="deny")
        # An old connection that was silent for a window.
        yield calico(
            n * 300, "agent-5d8-q7m2n", "10.48.1.6", f"10.48.7.{n + 1}", 5671, (1, 52, 0, 0),
            num_flows_started=0, num_flows_completed=0,
        )
        # Added up over pods and targets; and Goldmane, which knows groups alone.
        yield calico(
            n * 300, "-", None, None, 443, (900, 90000, 0, 0),
            source_name_aggr="agent-5d8-*", num_flows=60, num_flows_started=60,
        )
        yield json.dumps(
            {
                "Key": {
                    "source_name": "agent-5d8-*", "source_namespace": "research", "source_type": "WorkloadEndpoint",
                    "dest_name": "pub", "dest_type": "Network", "dest_port": 1000 + n, "proto": "tcp",
                    "reporter": "Src", "action": "Deny",
                },
                "start_time": START + n * 15, "end_time": START + n * 15 + 15, "packets_out": 60, "bytes_out": 3600,
                "num_connections_started": 60,
            },
            separators=(",", ":"),
        )


# --- Suricata ---------------------------------------------------------------------------------


def stamp(second):
    return f"2026-11-24T{10 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.250000+0000"


def eve(second, kind, source, destination, proto="TCP", **other):
    event = {"timestamp": stamp(second + 60), "flow_id": 7_000_000 + second, "in_iface": "eth0", "event_type": kind}
    event |= {"src_ip": source[0], "src_port": source[1], "dest_ip": destination[0], "dest_port": destination[1]}
    event |= {"proto": proto}
    return json.dumps(event | other, separators=(",", ":"))


def eve_flow(second, source, destination, counts, flags=None, state="new", proto="TCP"):
    to_server, bytes_server, to_client, bytes_client = counts
    flow = {
        "pkts_toserver": to_server, "pkts_toclient": to_client,
        "bytes_toserver": bytes_server, "bytes_toclient": bytes_client,
        "start": stamp(second), "end": stamp(second + 3), "age": 3,
        "state": state, "reason": "timeout", "alerted": False,
    }
    tcp = {"tcp": {"tcp_flags": flags[0], "tcp_flags_ts": flags[0], "tcp_flags_tc": flags[1]}} if flags else {}
    return eve(second, "flow", source, destination, proto, flow=flow, **tcp)


def eve_stats(second, drops):
    return json.dumps(
        {
            "timestamp": stamp(second), "event_type": "stats",
            "stats": {"uptime": second, "capture": {"kernel_packets": 9000 + second, "kernel_drops": drops}},
        },
        separators=(",", ":"),
    )


def suricata_scan():
    yield eve_stats(0, 12)
    for n in range(60):
        scanner, target = ("10.0.1.5", 40000 + n), (f"198.51.100.{n + 1}", 22)
        if n % 4 == 3:
            yield eve_flow(n, scanner, target, (1, 74, 1, 54), ("02", "14"), "closed")
        else:
            yield eve_flow(n, scanner, target, (3, 222, 0, 0), ("02", "00"))
        client, site = ("10.0.1.6", 41000 + n), (f"203.0.113.{n + 1}", 443)
        yield eve_flow(n, client, site, (12, 1900, 14, 9100), ("1b", "1b"), "closed")
        yield eve(n, "alert", target, scanner, alert={"signature_id": 1, "signature": "sample", "severity": 3})
    yield eve_stats(70, 12)


def suricata_honest():
    for n in range(60):
        name, address = f"site{n}.example.org", f"203.0.113.{n + 1}"
        client, resolver = ("10.0.1.6", 41000 + n), ("10.0.0.2", 53)
        question = {"version": 3, "type": "request", "queries": [{"rrname": name, "rrtype": "A"}]}
        answer = {
            "version": 3, "type": "response", "rcode": "NOERROR", "queries": [{"rrname": name, "rrtype": "A"}],
            "answers": [{"rrname": name, "rrtype": "A", "ttl": 60, "rdata": address}],
        }
        yield eve(2 * n, "dns", client, resolver, "UDP", dns=question)
        yield eve(2 * n, "dns", client, resolver, "UDP", dns=answer)
        yield eve_flow(2 * n, client, resolver, (1, 75, 1, 91), None, "established", "UDP")
        yield eve(2 * n, "tls", client, (address, 443), tls={"sni": name, "version": "TLS 1.3"})
        # Every third site of the list is down: DNS named it, so it is no evidence.
        if n % 3 == 0:
            yield eve_flow(2 * n, client, (address, 443), (7, 518, 0, 0), ("02", "00"))
        else:
            yield eve_flow(2 * n, client, (address, 443), (12, 1900, 14, 9100), ("1b", "1b"), "closed")
        # Answers that reach the host of somebody who forged its address.
        yield eve_flow(2 * n, (f"192.0.2.{n + 1}", 80), ("10.0.1.6", 50000 + n), (1, 60, 0, 0), ("12", "00"))
    yield eve_stats(300, 5)
    yield eve_stats(308, 9)


write("vpc/scan.log", vpc_scan())
write("vpc/honest.log", vpc_honest())
write("calico/scan.log", calico_scan())
write("calico/honest.log", calico_honest())
write("suricata/scan.json", suricata_scan())
write("suricata/honest.json", suricata_honest())
