"""A small Stratum pool and a small Stratum miner, for recordings only.

Started by record.sh: `stratum.py serve ADDRESS PORT` in the world, `stratum.py mine NAME PORT SECONDS` in the
miner-like pod. Both speak the real line protocol (subscribe, authorize, set_difficulty, notify, submit). Nothing
is hashed: jobs and shares are random numbers, and the pool accepts every share. Must not be pointed at a real pool.
"""

import json
import random
import socket
import socketserver
import sys
import threading
import time

JOB_INTERVAL_SECONDS = 10
SHARE_INTERVAL_SECONDS = (4, 11)
LINE_BYTES_MAX = 4096
SESSION_SECONDS_MAX = 400


def hex_digits(count):
    return f"{random.getrandbits(4 * count):0{count}x}"


class PoolSession(socketserver.StreamRequestHandler):
    """One miner's connection: answers what it asks, sends a new job on a beat."""

    timeout = 60

    def setup(self):
        super().setup()
        self.write_lock = threading.Lock()
        self.over = threading.Event()

    def send(self, message):
        with self.write_lock:
            self.wfile.write((json.dumps(message) + "\n").encode())

    def send_job(self):
        branches = [hex_digits(64) for _ in range(random.randint(4, 10))]
        parameters = [hex_digits(8), hex_digits(64), hex_digits(108), hex_digits(100), branches]
        parameters += ["20000000", "1703a30c", f"{int(time.time()):08x}", True]
        self.send({"id": None, "method": "mining.notify", "params": parameters})

    def send_jobs(self):
        try:
            while not self.over.wait(JOB_INTERVAL_SECONDS):
                self.send_job()
        except OSError:
            pass  # the miner has gone; handle() ends by itself

    def handle(self):
        jobs = threading.Thread(target=self.send_jobs, daemon=True)
        deadline = time.monotonic() + SESSION_SECONDS_MAX
        while time.monotonic() < deadline:
            line = self.rfile.readline(LINE_BYTES_MAX)
            if not line:
                break
            request = json.loads(line)
            if request["method"] == "mining.subscribe":
                subscription = [["mining.set_difficulty", hex_digits(8)], ["mining.notify", hex_digits(8)]]
                result = [subscription, hex_digits(8), 4]
            else:
                result = True
            self.send({"id": request["id"], "result": result, "error": None})
            if request["method"] == "mining.authorize":
                self.send({"id": None, "method": "mining.set_difficulty", "params": [8192]})
                self.send_job()
                jobs.start()

    def finish(self):
        self.over.set()
        super().finish()


class Pool(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def mine(name, port, seconds):
    """Holds one session for `seconds`, sending a share now and then; prints what came back."""
    random.seed(7)  # the same rhythm in every recording
    state = {"job": "0", "jobs": 0, "accepted": 0}
    connection = socket.create_connection((name, port), timeout=60)
    reader = connection.makefile("r")

    def send(number, method, parameters):
        connection.sendall((json.dumps({"id": number, "method": method, "params": parameters}) + "\n").encode())

    def read():
        for line in reader:
            message = json.loads(line)
            if message.get("method") == "mining.notify":
                state["job"] = message["params"][0]
                state["jobs"] += 1
            elif message.get("result") is True:
                state["accepted"] += 1

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + seconds
    send(1, "mining.subscribe", ["cpuminer/2.5.1"])
    send(2, "mining.authorize", ["agent.worker1", "x"])
    number = 3
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, random.uniform(*SHARE_INTERVAL_SECONDS)))
        share = ["agent.worker1", state["job"], hex_digits(8), f"{int(time.time()):08x}", hex_digits(8)]
        send(number, "mining.submit", share)
        number += 1
    time.sleep(1)  # lets the answer to the last share arrive before the end
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    print(f"{state['jobs']} jobs, {state['accepted'] - 1} shares accepted in {seconds} s")


def main():
    role, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if role == "serve":
        with Pool((host, port), PoolSession) as pool:
            pool.serve_forever()
    elif role == "mine":
        mine(host, port, int(sys.argv[4]))
    else:
        sys.exit(f"stratum.py: wanted 'serve' or 'mine', got '{role}'")


if __name__ == "__main__":
    main()
