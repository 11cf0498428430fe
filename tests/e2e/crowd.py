# SPDX-License-Identifier: Apache-2.0
"""A crowd of anonymous visitors, in a process of its own: each has a connection and an address, and always wants a
stream; one that is refused asks again.

    crowd.py PORT VISITORS [RETRY_S]     until its input is closed; then prints {"status": how often}"""

import collections
import json
import resource
import select
import socket
import sys
import time


class Visitor:
    def __init__(self, port, i):
        self.port, self.i, self.sock, self.due = port, i, None, 0

    def ask(self, poll):
        body = json.dumps(
            {"prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": True, "stream": True, "seed": self.i}
        )
        address = f"10.{self.i >> 16 & 255}.{self.i >> 8 & 255}.{self.i & 255}"
        if self.i % 2:
            address = f"2001:db8:{self.i >> 4:x}:{self.i & 15:x}::1"
        if self.sock is None:
            self.sock = socket.create_connection(("127.0.0.1", self.port), 30)
            self.sock.setblocking(False)
            poll.register(self.sock, select.EPOLLIN)
        self.head = b""
        self.sock.send(
            f"POST /v1/completions HTTP/1.1\r\nHost: crowd\r\nX-Forwarded-For: {address}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def read(self):
        """None: more is to come; else the status of an answer that has ended, 0 = the connection did."""
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.sock.close()
            self.sock = None
            return 0
        self.head = (self.head + data)[:400]
        self.tail = data[-7:]
        status = int(self.head[9:12])
        return None if status == 200 and not self.tail.endswith(b"0\r\n\r\n") else status


def main(port, visitors, retry_s=0.5):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    poll, seen, waiting = select.epoll(), collections.Counter(), collections.deque()
    poll.register(sys.stdin, select.EPOLLIN)
    all_, by_fd = [Visitor(port, i) for i in range(visitors)], {}
    waiting.extend(all_)
    while True:
        while waiting and waiting[0].due <= time.monotonic():
            v = waiting.popleft()
            v.ask(poll)
            by_fd[v.sock.fileno()] = v
        for fd, _ in poll.poll(0.02):
            if fd == sys.stdin.fileno():
                print(json.dumps(seen))
                return
            status = by_fd[fd].read()
            if status is None:
                continue
            seen[status] += 1
            by_fd[fd].due = time.monotonic() + (0 if status == 200 else retry_s)
            waiting.append(by_fd[fd])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:4]))
